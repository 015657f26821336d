"""The driver of a sweep: starts runs where there is room, notes how they end, until none is left."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cl_engine.analysis.names import one_line
from cl_engine.core.files import write
from cl_engine.errors import UsageError
from cl_engine.results.log_file import LOG_NAME
from cl_engine.runs.run_folder import RunFolder
from cl_engine.runs.signals import Stopped, asked_to_stop
from cl_engine.sweep.axes import Axes
from cl_engine.sweep.backend import Backend, Job, JobProgress, Outcome
from cl_engine.sweep.combinations import Combination, references, told
from cl_engine.sweep.config import CHOSEN_ON, SweepOptions
from cl_engine.sweep.folder import NEEDS, OUTPUT, Entry, SweepFolder
from cl_engine.sweep.halving import Goal, goals
from cl_engine.sweep.log_summary import LogSummary, rows_of
from cl_engine.sweep.search import Adaptive
from cl_engine.sweep.status import Status

TICK = 0.25  # seconds between two looks at whether to stop


class Driver:
    """Drives the runs of a sweep to their end, in a folder that it holds.

    >>> Driver.__name__  # Sweep(options, folder).run() makes one and drives it
    'Driver'

    Args:
        options: what was asked for.
        folder: where the sweep's state is.
        backend: where runs run.
        watch: told the tally whenever it may have changed, with a sentence where something has happened.
        device, data_root, command, accept_changes: how runs are run, and what was typed.
    """

    def __init__(
        self,
        options: SweepOptions,
        folder: SweepFolder,
        backend: Backend,
        watch: Callable[[Status, str], None] = lambda tally, said: None,
        *,
        device: str = "auto",
        data_root: Path | None = None,
        command: str = "",
        accept_changes: bool = False,
    ) -> None:
        self.options, self.folder, self.backend, self.watch = options, folder, backend, watch
        self.accept_changes = accept_changes
        self.device, self.data_root, self.command = device, data_root, command
        self.combinations: dict[str, Combination] = {}
        self.tally = Status(options)
        self.ready: deque[tuple[str, int | None]] = deque()
        self.queued: set[str] = set()  # what is in it
        self.groups: dict[str, list[str]] = {}
        self.carried: set[str] = set()  # runs whose files a node has asked for
        self.adaptive: Adaptive | None = None
        self.identity = ""
        self._names = folder.known()

    def add(self, combinations: Iterable[Combination]) -> None:
        """Take runs into the sweep, as they stand in its folder."""
        for each in combinations:
            self._enter(each)
        self._keep()

    def adapt(self, axes: Axes) -> None:
        """Take in the trials that an adaptive search has asked for, and let it ask for more as results come in."""
        known = self.folder.entries if (self.folder.path / "sweep.json").exists() else []
        scores = {}
        for entry in known:
            look = self.folder.look(entry.name, self.options.objective)
            if look.status == "finished":
                scores[entry.name] = look.way * look.on(rows_of([look], self.options))
            elif self.folder.given_up(entry.name, self.options.retries) is not None:
                scores[entry.name] = math.nan
        self.adaptive = Adaptive(self.options, axes, known, scores)
        for combination, trial in self.adaptive.restored:
            self._enter(combination, trial)
        self._keep()

    def measure(self, combinations: Iterable[Combination]) -> dict[str, dict[str, Any]]:
        """Find out what one run of each scenario and strategy takes, where it is not known; return all that is known."""
        needs = self.folder.needs
        waiting: dict[str, Combination] = {}
        for each in combinations:
            if each.kind not in needs:
                waiting.setdefault(each.kind, each)
        jobs = deque(
            self._job(f".needs/{re.sub('[:/]', '-', kind)}", each, measure=True) for kind, each in waiting.items()
        )
        kinds = {job.name: kind for job, kind in zip(jobs, waiting, strict=True)}
        if waiting:
            self.watch(self.tally, f"measuring what a run takes, for {len(waiting)} kind(s) of them")
        with asked_to_stop() as asked:
            running = 0
            while jobs or running:
                if asked:
                    raise Stopped(asked[0])
                while jobs and self.backend.room > 0:
                    self.backend.start(jobs.popleft())
                    running += 1
                self.watch(self.tally, "")
                for what in self.backend.wait(TICK):
                    if isinstance(what, Outcome):
                        running -= 1
                        if what.said == "measured":
                            needs[kinds[what.name]] = what.about
                        elif what.said == "refused":
                            self.tally.refused[kinds[what.name]] = what.error
        if waiting:
            write(self.folder.path / NEEDS, json.dumps(needs, indent=1).encode())
        self.tally.needs = needs
        return needs

    def drive(self) -> Status:
        """Run what is to be run; return what became of it.

        Raises:
            Stopped: if SIGINT or SIGTERM asked for it, when all runs have stopped where they can go on from.
        """
        for group in self.groups:
            self._plan(group)
        with asked_to_stop() as asked:
            while True:
                if asked:
                    self._stop()
                    raise Stopped(asked[0])
                self._propose()
                while self.ready and self.backend.room > 0:
                    self._start(*self.ready.popleft())
                self.watch(self.tally, "")
                if not self.tally.running and not self.ready:
                    self._keep()  # by which rows choices went is known from the logs alone
                    return self.tally
                for what in self.backend.wait(TICK):
                    self._take(what)

    def _stop(self) -> None:
        self.backend.stop()
        self.watch(self.tally, f"stopping {len(self.tally.running)} run(s), each where it can go on from")
        self.ready.clear()
        while self.tally.running:
            for what in self.backend.wait(TICK):
                self._take(what)

    def _enter(self, each: Combination, trial: dict[str, Any] | None = None) -> Entry:
        name = self._names.setdefault(each.hash, each.name)
        known = self.tally.entries.get(name)
        if known is not None:
            if trial:
                known.trial.setdefault("cell", trial["cell"])
                known.trial.setdefault("params", []).extend(trial["params"])
            return known
        experiment = each.experiment
        what = [experiment.scenario, experiment.strategy, experiment.resolved["stream"], experiment.seeds]
        group = json.dumps(what, sort_keys=True) if self.options.halving and not each.reference else name
        entry = Entry(
            *(name, each.hash, experiment.scenario, experiment.strategy, list(experiment.seeds)),
            *(each.changes, each.reference, trial or {}),
        )
        self.combinations[name] = each
        self.groups.setdefault(group, []).append(name)
        self.tally.enter(entry, group, self.folder.look(name, self.options.objective))
        error = self.folder.given_up(name, self.options.retries)
        if error is not None:
            self.tally.failed[name] = error
        return entry

    def _keep(self) -> None:
        self.identity = self.folder.keep(
            self.options.model_dump(), self.tally.entries.values(), self.command, self.tally.chosen_on
        )

    def _propose(self) -> None:
        """Ask the search for as much as there is room for."""
        while self.adaptive is not None and len(self.ready) < self.backend.room:
            try:
                proposed = self.adaptive.proposed()
                if proposed is None:
                    return
                combination, trial = proposed
                added = references([combination]) if self.options.reference else []
            except UsageError as error:  # values that go alone and not together: the other trials know nothing of it
                self.watch(self.tally, f"a trial was refused: {error}")
                continue
            entry = self._enter(combination, trial)
            for reference in added:
                self._plan(self.tally.groups[self._enter(reference).name])
            self._keep()
            self._tell(entry.name)
            self._plan(self.tally.groups[entry.name])

    def _plan(self, group: str) -> None:
        """Make ready what of a group can go on now."""
        tally, names = self.tally, self.groups[group]
        if self.options.halving is None or len(names) == 1:
            decided = {name: Goal() for name in names}
        else:
            decided = goals(names, {name: tally.looks[name] for name in names}, set(tally.failed), self.options)
        for name, goal in decided.items():
            if tally.looks[name].status == "finished" or name in (*tally.failed, *tally.running):
                continue
            if goal.dropped_at is not None:
                if name not in tally.dropped:
                    with self._apart(name):
                        self.folder.note(name, "dropped", after=goal.dropped_at, chosen_on=CHOSEN_ON[goal.rows])
                tally.dropped[name], tally.dropped_by[name] = goal.dropped_at, CHOSEN_ON[goal.rows]
            elif not goal.waits and name not in self.queued:
                tally.dropped.pop(name, None)
                self.ready.append((name, goal.until))
                self.queued.add(name)

    def _start(self, name: str, until: int | None) -> None:
        self.queued.discard(name)
        with self._apart(name):
            self.folder.note(name, "started", until=until)
        if name in self.tally.failed:
            self._tell(name)
            return
        job = self._job(name, self.combinations[name], until=until)
        self.tally.started(name)
        self.backend.start(job)

    @contextmanager
    def _apart(self, name: str) -> Iterator[None]:
        """Make an error in the folder of a run the failure of that run alone."""
        try:
            yield
        except (OSError, UsageError) as error:
            self.tally.failed[name] = str(error)
            self.watch(self.tally, f"{self.tally.label(name)}: given up: {one_line(str(error))}")

    def _job(self, name: str, combination: Combination, until: int | None = None, measure: bool = False) -> Job:
        folder = self.folder.path.resolve() / name
        carried = RunFolder.to_go_on(folder) if name in self.carried else ()
        files = {file: (folder / file).read_bytes() for file in carried}
        return Job(
            name,
            str(self.folder.path.resolve()),
            self.identity,
            told(combination.experiment),
            until=until,
            measure=measure,
            begun=(folder / LOG_NAME).exists(),
            files=files or None,
            threads=self.options.resources.threads,
            device=self.device,
            data_root=str(self.data_root.resolve()) if self.data_root else None,
            command=self.command,
            accept_changes=self.accept_changes,
        )

    def _take(self, what: Outcome | JobProgress) -> None:
        """Take in what a place says."""
        tally = self.tally
        if isinstance(what, JobProgress):
            tally.heard(what)
            return
        name = what.name
        with self._apart(name):
            for file in (each for each in what.files if each == OUTPUT or RunFolder.is_to_go_on(each)):
                write(self.folder.path / name / file, what.files[file])
            if what.said == "unseen":
                self.carried.add(name)
            else:
                self.folder.note(name, what.said, error=what.error, seconds=round(what.seconds, 3), where=what.where)
        tally.ended(what, self._look(name, what.said == "finished"))
        error = self.folder.given_up(name, self.options.retries)
        if error is not None:
            tally.failed[name] = error
        elif tally.looks[name].status == "finished":
            tally.failed.pop(name, None)
        self.watch(tally, tally.sentence(what))
        self._tell(name)
        self._plan(tally.groups[name])

    def _look(self, name: str, finished: bool) -> LogSummary:
        return (self.folder.look_once_finished if finished else self.folder.look)(name, self.options.objective)

    def _tell(self, name: str) -> None:
        """Tell the search what became of a run, once that is known."""
        if self.adaptive is None:
            return
        if (look := self.tally.looks[name]).status == "finished":
            rows = rows_of([look], self.options)
            self.adaptive.tell(self.tally.entries[name].hash, look.way * look.on(rows), CHOSEN_ON[rows])
        elif name in self.tally.failed:
            self.adaptive.tell(self.tally.entries[name].hash, math.nan)
