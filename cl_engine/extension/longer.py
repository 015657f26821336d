"""A run that goes on where another one is: its folder begins with what that has learned and measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import h5py
import numpy as np

from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import Evaluate, Item, Learn, Save, plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import StreamEnded
from cl_engine.experiment import Experiment
from cl_engine.extension.ledgers import ledger_of
from cl_engine.extension.log_parts import Part, fill
from cl_engine.extension.logs import up_to_date
from cl_engine.extension.prefix import Agreement, agreement, changed, check_arrivals, check_options
from cl_engine.extension.trial import different, tried
from cl_engine.loggers.recorder import Recorder
from cl_engine.results.run import Run
from cl_engine.runs.data_root import DataRoot
from cl_engine.runs.material import Material
from cl_engine.runs.metrics import metrics_of, of_answers
from cl_engine.runs.run_folder import RunFolder
from cl_engine.strategy import Strategy


@dataclass(frozen=True)
class Longer:
    """What a run begins with that goes on from another one: called by `cl_engine.experiment.Experiment.run`.

    >>> Longer.__name__
    'Longer'

    Attributes:
        run: the run that is gone on from.
        before: its experiment.
        after: the experiment of the longer one, of the same seeds.
        sources: where data are.
    """

    run: Run
    before: Experiment
    after: Experiment
    sources: DataRoot

    def __call__(self, folder: RunFolder, stream: Stream, strategy: Strategy, record: Callable[..., Recorder]) -> None:
        """Put log and checkpoint into the folder, as a run from the start would have them after as many experiences.

        Raises:
            UsageError: if nothing can be taken over, or not all that a run from the start would have.
        """
        with RunFolder(self.run.path.parent, self.run.environment["experiment"]) as held:
            state = self._state(held, folder.material, stream)
            agreed = self._agreed(state, stream, strategy)
            with up_to_date(self.run, folder.path, state["step"], stream) as taken:
                self._begin(folder, stream, strategy, record, state, agreed, taken)

    def checked(self, stream: Stream, strategy: Strategy, material: Material) -> tuple[int, Agreement]:
        """Return after which experience the run would be gone on from, and what its agenda has in common with the longer one's.

        Raises:
            UsageError: as `__call__`.
        """
        with RunFolder(self.run.path.parent, self.run.environment["experiment"]) as held:
            state = self._state(held, material, stream)
            return int(state["step"]), self._agreed(state, stream, strategy)

    def _state(self, held: RunFolder, material: Material, stream: Stream) -> dict[str, Any]:
        held.material.take_data(material.digests, accept=False)
        held.material.take_code(material.code, accept=False)
        state = held.resume(stream.device)
        if state is None:
            raise UsageError(f"{held.path} holds no checkpoint, so there is nothing that a longer run could go on from")
        return state

    def _agreed(self, state: dict[str, Any], stream: Stream, strategy: Strategy) -> Agreement:
        """Return what the longer run's agenda has in common with what was done when ``state`` was saved."""
        last = int(state["step"])
        if last < 0:
            raise UsageError(f"{self.run.path.parent} has learned nothing yet, so there is nothing to be taken over")
        differing = changed(self.before.resolved, self.after.resolved)
        check_options(differing, bool(state["ledger"].get("stopped")))
        why = ", ".join(
            f"{name} = {json.dumps(now)}" for name, (_, now) in differing.items() if name.startswith("stream.")
        )
        before = self.before.stream(str(stream.device), self.sources) if why else stream
        if stream.n_steps is not None and stream.n_steps <= last:
            raise UsageError(
                f"{why or 'stream'}: the run has learned {last + 1} experiences, and the stream would have {stream.n_steps}: a "
                "run can be made longer, not shorter"
            )
        if why and strategy.looks_ahead:
            raise UsageError(
                f"{why}: what the strategy '{strategy.name()}' learns of a task depends, with these options, on how many "
                "tasks, or which, come after it, so a longer run begins anew (`run`)"
            )
        done = list(islice(plan(before, self.before.agenda), int(state["cursor"])))
        if why:
            tested = sorted({task for item in done if isinstance(item, Evaluate) for task in item.task_ids})
            check_arrivals(before, stream, last + 1, tested, why)
            self._check_start(before, stream, strategy, why)
        return agreement(done, plan(stream, self.after.agenda), last)

    def _check_start(self, before: Stream, stream: Stream, strategy: Strategy, why: str) -> None:
        """Refuse a strategy that would have begun otherwise had it met the longer stream."""
        then = self.before.build_strategy(before, self.after.backbone(stream, self.sources))
        if different(then.start(), strategy.start()) or different(tried(then, before), tried(strategy, stream)):
            raise UsageError(
                f"{why}: the strategy '{strategy.name()}' would have learned otherwise from its start, as that depends on how "
                "many tasks, or which, come after: a longer run begins anew (`run`)"
            )

    def _begin(
        self,
        folder: RunFolder,
        stream: Stream,
        strategy: Strategy,
        record: Callable[..., Recorder],
        state: dict[str, Any],
        agreed: Agreement,
        taken: h5py.File,
    ) -> None:
        last = int(state["step"])
        kept = {"changes": self.run.environment["changes"]} if "changes" in self.run.environment else {}
        told = json.dumps([of_run(self.run, self.before.seeds, last)])
        recorder = record(resume=None, taken_over=told, **kept)
        try:
            with h5py.File(recorder.working, "r+", libver=("v110", "v110")) as log:
                rows = int(np.count_nonzero(taken["results/evaluation_step"][:] <= last))
                part = Part(taken, self.before.seeds)
                fill(log, recorder.tables, [part], self.after.seeds, rows - (agreed.again is not None), stream)
                numbers = log["events/event"]
                recorder.next_event = int(numbers[-1]) + 1 if len(numbers) else 0
                if agreed.again is not None:
                    state["ledger"] = ledger_of(log["results"], stream, state["ledger"]).state()
                    if "validation" in state:
                        known = state["validation"]
                        state["validation"] = ledger_of(log["results"], stream, known, validation=True).state()
            self._made_up(folder, stream, strategy, recorder, state, agreed)
            recorder.publish("stopped")
        finally:
            recorder.close()

    def _made_up(
        self,
        folder: RunFolder,
        stream: Stream,
        strategy: Strategy,
        recorder: Recorder,
        state: dict[str, Any],
        agreed: Agreement,
    ) -> None:
        """Make the tests that were not made, and save."""
        last = int(state["step"])
        more: list[Item] = [Evaluate(-1, agreed.untrained)] if agreed.untrained else []
        more += [agreed.again] if agreed.again is not None else []
        more.append(Save(last, last=True))
        # as if they stood at the end of what has been done of the agenda
        cursor = agreed.cursor - len(more)
        agenda: Iterable[Item] = chain([Learn(0)] * cursor, more)
        options = self.after.agenda
        events = simulate(
            stream,
            strategy,
            agenda,
            resume={**state, "cursor": cursor, "midway": None},
            save_to=folder.checkpoint,
            **options.watched,
            metrics=of_answers(metrics_of(options.metrics, stream)),
            spot_checks=0.0,
            mark=folder.mark,
        )
        for event in events:
            if not isinstance(event, StreamEnded):
                recorder(event)


def of_run(run: Run, seeds: Iterable[int], last: int) -> dict[str, Any]:
    """Return what a log says of a run that something was taken over from: where it is, its seeds, and how many experiences."""
    return {
        "run": str(run.path.parent.resolve()),
        "run_id": run.attributes["run_id"],
        "seeds": list(seeds),
        "experiences": last + 1,
    }
