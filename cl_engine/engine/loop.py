"""The loop of a run: an agenda goes in, events come out, and nothing else calls the strategy."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine import events
from cl_engine.checkpoints.store import Store
from cl_engine.core import gpu
from cl_engine.core.state import Memory, check_state
from cl_engine.core.torch_defaults import under_torch_defaults
from cl_engine.data.own_streams import fault_of_experience, is_own
from cl_engine.data.stream import Experience, Stream
from cl_engine.engine.agenda import Evaluate, Item, Learn
from cl_engine.engine.answer_metrics import scored
from cl_engine.engine.boundaries import without_boundaries
from cl_engine.engine.checkpointer import Checkpointer
from cl_engine.engine.evaluator import Evaluator, TestResult
from cl_engine.engine.midway import Midway
from cl_engine.engine.stopped_seeds import said, undefined_answers, warn_untrained, without_seeds
from cl_engine.engine.validation import Validation
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Event, GuessScored, NotFinite, ScoresReused
from cl_engine.metrics.running import Ledger
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.flops import Flops
from cl_engine.strategy import Strategy
from cl_engine.training.fit_job import Curve, Diagnostics, TrainingProbe
from cl_engine.training.fit_progress import Resumable

LOG = logging.getLogger("cl_engine")


def simulate(
    stream: Stream,
    strategy: Strategy,
    agenda: Iterable[Item],
    *,
    resume: dict[str, Any] | None = None,
    save_to: Path | Store | None = None,
    save_share: float | None = None,
    save_every_epochs: int = 0,
    curve: Curve | None = None,
    online: int | None = None,
    diagnostics: Diagnostics | None = None,
    diagnose_every: int = 0,
    spot_checks: float | None = 0.0,
    validation: bool = False,
    metrics: Mapping[str, AnswerMetric] | None = None,
    mark: str = "",
) -> Iterator[Event]:
    """Walk the agenda and yield what happens. To stop a run, stop reading.

    Args:
        stream: what is learned and tested on.
        strategy: what learns; its state is set here.
        agenda: all that is to be done, from the start (`cl_engine.engine.agenda.plan`).
        resume: what was loaded from a checkpoint, to go on from there.
        save_to: where `Save` writes checkpoints, or the store that ``resume`` was loaded from; None: nothing is saved.
        save_share: put a save off while saving has taken more than this share of the run; None: never.
        save_every_epochs: save in the middle of an experience too, after every k-th epoch; 0: never.
        curve: when to test in the middle of learning.
        online: whether batches are scored by the forward pass that trains on them, and how often that is told: see `FitJob`.
        diagnostics: what nets are looked at for before they are trained; ``diagnose_every``: in every k-th experience; 0: never.
        spot_checks: share of the scores held to be unchanged that are measured again all the same; None: see `Evaluator`.
        validation: whether tasks are scored on their validation rows too, where they have any.
        metrics: what is measured of answers beside the score, by name.
        mark: says in the checkpoint which experiment it is of.

    Raises:
        UsageError: if the strategy's first state is not one that can be saved.
        RunFailed: if learning cannot go on, or a spot check fails.
    """
    strategy.online = online
    checkpointer = Checkpointer(save_to, save_share, save_every_epochs)
    evaluator = Evaluator(stream, strategy, spot_checks)
    evaluator.metrics = metrics or {}
    validated = Validation(stream, strategy) if validation else None
    simulation = _Simulation(stream, strategy, checkpointer, curve or Curve(), evaluator, mark, validated)
    simulation.diagnostics, simulation.diagnose_every = diagnostics or Diagnostics(), diagnose_every
    return simulation.events(agenda, resume)


class _Simulation:
    """One walk along an agenda."""

    def __init__(
        self,
        stream: Stream,
        strategy: Strategy,
        checkpointer: Checkpointer,
        curve: Curve,
        evaluator: Evaluator,
        mark: str,
        validation: Validation | None,
    ) -> None:
        self.stream, self.strategy, self.mark, self.own = stream, strategy, mark, is_own(stream)
        self.checkpointer, self.evaluator = checkpointer, evaluator
        strategy.curve, strategy.n_tasks = curve, stream.n_tasks
        self.midway, self.validation = Midway(strategy, evaluator), validation
        self.ledger = Ledger(len(strategy.seeds))
        self.diagnostics, self.diagnose_every = Diagnostics(), 0
        self.cursor, self.warned = 0, False
        self.began = time.perf_counter()

    @under_torch_defaults
    def events(self, agenda: Iterable[Item], resume: dict[str, Any] | None) -> Generator[Event, None, None]:
        step = -1
        if resume is None:
            self.strategy.state = self.strategy.start()
            check_state(self.strategy.state, len(self.strategy.seeds), self.strategy.name())
        else:
            self.strategy.state = resume["strategy"]
            self.ledger = Ledger.restored(resume["ledger"])
            self.cursor, step = resume["cursor"], resume["step"]
            if self.validation is not None:
                self.validation.resumed(resume.get("validation"), self.ledger)
            self.checkpointer.resumed(resume)
        n_steps, n_tasks = self.stream.n_steps, self.stream.n_tasks
        yield events.StreamStarted(step=step, cursor=self.cursor, n_steps=n_steps, n_tasks=n_tasks)
        for item in islice(iter(agenda), self.cursor, None):
            step = max(step, item.step)
            if isinstance(item, Learn):
                for event in self._learn(item):
                    yield without_seeds(event, self.ledger.stopped)
            elif isinstance(item, Evaluate):
                for event in self._evaluate(item):
                    yield without_seeds(event, self.ledger.stopped)
            elif item.last or not self.checkpointer.behind:
                yield from self._save(item.step, self.cursor + 1)
            self.cursor += 1
        yield events.StreamEnded(step=step, seconds=time.perf_counter() - self.began)
        self.checkpointer.finished()

    def _learn(self, item: Learn) -> Iterator[Event]:
        if self.checkpointer.every_epochs and not self.checkpointer.has_state:
            yield from self._save(item.step - 1, self.cursor)  # what learning starts from, to be taken up in its middle
        experience = self.stream.arrival(item.step)
        if self.own and (fault := fault_of_experience(self.stream, item.step, experience)):
            raise RunFailed(fault) if item.step else UsageError(fault)
        task = experience.task_id
        journal = self.strategy.journal = self.checkpointer.journal(item.step)
        yield events.TaskStarted(step=item.step, task_id=task, rows=len(experience.train))
        yield from self._guess(experience)
        due = self.diagnose_every and item.step % self.diagnose_every == 0
        self.strategy.diagnostics = self.diagnostics if due else None
        began = time.perf_counter() - (journal.seconds if journal else 0.0)
        for event in self._learning(experience):
            if isinstance(event, TrainingProbe):
                for fact in self.midway.tested(event, task, self.ledger):
                    if event.record is not None:
                        event.record.note(fact)
                    yield fact
            elif isinstance(event, NotFinite):
                yield from self._stop(event)
            elif isinstance(event, Resumable):
                if journal and self.checkpointer.due():
                    saving = time.perf_counter()
                    yield events.Saving(step=item.step, cursor=self.cursor)
                    yield self.checkpointer.midway(journal, item.step, self.cursor, saving - began, saving)
            else:
                yield event
        self.checkpointer.has_state = False
        self.ledger.learned(item.step, task)
        if self.validation is not None:
            self.validation.ledger.learned(item.step, task)
        check_state(self.strategy.state, len(self.strategy.seeds), self.strategy.name())
        memory, apart = self._memory.by_part(self.strategy.state)
        gpu.finish(self.stream.device)
        yield events.TaskLearned(
            step=item.step,
            task_id=task,
            memory=memory,
            apart=apart,
            flops=self._flops(experience),
            seconds=time.perf_counter() - began,
        )

    def _learning(self, experience: Experience) -> Iterator[Event]:
        learning = self.strategy.learning
        return learning(experience) if self.stream.boundaries else without_boundaries(learning, experience)

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self.strategy.drawn().state)

    def _guess(self, experience: Experience) -> Iterator[Event]:
        """Tell what a guess comes to, where a task that asks for something else than classes arrives for the first time."""
        task = experience.task_id
        if self.stream.only_accuracy or self.ledger.met(task) or not experience.labelled:
            return
        target, own = self.strategy.target_of(task), experience.train.of_seeds is not None
        guesses = [target.guess(experience.train.of(s)[1]) for s in range(len(self.strategy.seeds) if own else 1)]
        sums = self.evaluator.sums(task, lambda x: torch.stack([g.expand(len(x), *g.shape) for g in guesses]))
        yield GuessScored(step=experience.step, task_id=task, score=float(np.mean(target.score(sums))))

    def _stop(self, event: NotFinite) -> Iterator[Event]:
        """Go on without the seeds whose loss is not finite."""
        seeds = self.strategy.seeds
        new = {seeds.index(seed) for seed in event.seeds} - self.ledger.stopped
        if not new:
            return
        self.ledger.stopped |= new
        what, where = said(event)
        if len(self.ledger.stopped) == len(seeds):
            raise RunFailed(
                f"{what} of the last seed is not finite {where}: lower train.lr, now {self.strategy.train.lr}"
            )
        names = ", ".join(str(seeds[cursor]) for cursor in sorted(new))
        LOG.warning("%s of seed %s is not finite %s: the others go on without it", what, names, where)
        stopped = tuple(int(cursor in new) for cursor in range(len(seeds)))
        yield events.SeedStopped(
            step=event.step, task_id=event.task_id, fit=event.fit, epoch=event.epoch, stopped=stopped
        )

    def _undefined(self, step: int) -> Iterator[Event]:
        """Go on without the seeds that have answered with NaN, if they are not to end the run."""
        found = {place: task for place, task in self.evaluator.undefined.items() if place not in self.ledger.stopped}
        if found and step >= 0:
            yield from self._stop(undefined_answers(found, self.strategy.seeds, self.strategy.train, step))
        elif found and not self.warned:
            self.warned = True
            warn_untrained(found, self.strategy.seeds)
        self.evaluator.undefined.clear()

    def _flops(self, experience: Experience) -> float:
        """Return the operations of answering one row of the experience, those of one seed."""
        told = self.evaluator.told(experience.task_id)
        with Flops() as counted:
            self.strategy.predict(experience.train.x[:1], told)
        flops: int = counted.total
        return flops / len(self.strategy.seeds)

    def _evaluate(self, item: Evaluate) -> Iterator[Event]:
        began = time.perf_counter()
        row = self.ledger.row(item.step)
        for answered in self._answers(item):
            yield from self._undefined(item.step)
            self.ledger.put(answered.task_ids, answered.score)
            held = ScoresReused(
                step=item.step,
                evaluation=row,
                task_ids=answered.task_ids,
                score=answered.score,
                sums=answered.sums,
            )
            yield from [held] if answered.reused else events.cells(held)
            yield from self._metrics(answered, item.step, row)
        measure_of = None if self.stream.only_accuracy else lambda task: self.strategy.target_of(task).measure
        scores = {name: tuple(values.tolist()) for name, values in self.ledger.scores(measure_of).items()}
        if self.validation is not None and item.step >= 0:
            met = [task for task in item.task_ids if self.ledger.met(task)]
            yield from self.validation.scored(met, item.step, row, self.ledger.stopped)
        yield events.Scored(step=item.step, evaluation=row, seconds=time.perf_counter() - began, **scores)

    def _metrics(self, answered: TestResult, step: int, row: int) -> Iterator[Event]:
        """Tell of the metrics on tasks that were tested; at the end of the stream, where sums are kept, on the others too."""
        metrics, last = self.evaluator.metrics, step + 1 == self.stream.n_steps
        if not metrics or (answered.reused and not (last and any(metric.keep == "end" for metric in metrics.values()))):
            return
        for task in answered.task_ids.tolist():
            found = self.evaluator.metric_sums(task) if answered.reused else answered.metrics
            where = {"step": step, "evaluation": row, "task_id": task}
            yield from scored(metrics, found, where, last, answered.reused)

    def _answers(self, item: Evaluate) -> Iterator[TestResult]:
        if item.step < 0:
            return self.evaluator.untrained(item.task_ids)
        return self.evaluator.trained(item.task_ids, item.step, self.ledger.known)

    def _save(self, step: int, cursor: int) -> Iterator[Event]:
        if not self.checkpointer.possible:
            return
        saving = time.perf_counter()
        yield events.Saving(step=step, cursor=self.cursor)
        state = {
            "strategy": self.strategy.state,
            "ledger": self.ledger.state(),
            "cursor": cursor,
            "step": step,
            "experiment": self.mark,
        }
        if self.validation is not None and self.validation.any:
            state["validation"] = self.validation.ledger.state()
        yield self.checkpointer.whole(state, self.cursor, saving)
