"""The status of a sweep: what is done, running, failed, dropped or waiting, the time left, and the best run."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cl_engine.analysis.names import one_line
from cl_engine.core.text import clean, duration, number, size
from cl_engine.metrics.catalogue import METRICS
from cl_engine.options import checked
from cl_engine.sweep.backend import JobProgress, Outcome
from cl_engine.sweep.config import CHOSEN_ON, Rows, SweepOptions
from cl_engine.sweep.folder import PLAN, Entry, SweepFolder
from cl_engine.sweep.log_summary import LogSummary, rows_of


@dataclass
class Running:
    """A running run: since when, and how far it is.

    >>> Running(since=0.0).heard is None
    True
    """

    since: float
    heard: JobProgress | None = None


class Status:
    """Counts the runs of a sweep, from their folders and from what a place says.

    >>> from cl_engine.sweep.config import SweepOptions
    >>> Status(SweepOptions(scenarios=["permuted_digits"], strategies=["replay"])).counts()
    '0 of 0 done'

    Attributes:
        entries, looks: the runs, and what their logs say, by name; ``finished`` those that are.
        groups: the group of each run.
        running, failed, dropped: those that run; the errors of those given up; the experiences after which a run was
            dropped, and in ``dropped_by`` by which rows.
        needs, refused: what was measured of each kind of run, or why that cannot be run.
    """

    def __init__(self, options: SweepOptions) -> None:
        self.options = options
        self.entries: dict[str, Entry] = {}
        self.looks: dict[str, LogSummary] = {}
        self.groups: dict[str, str] = {}
        self.running: dict[str, Running] = {}
        self.failed: dict[str, str] = {}
        self.dropped: dict[str, int] = {}
        self.dropped_by: dict[str, str] = {}
        self.needs: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, str] = {}
        self.times: dict[str, list[float]] = {}
        self.began = time.monotonic()
        self.most = 1
        self.finished: set[str] = set()
        self._done: list[str] | None = None  # found anew only when something has changed
        self._rows: tuple[Rows | None] | None = None
        self._varied: list[str] | None = None

    @classmethod
    def of(cls, folder: SweepFolder) -> Status:
        """Return how the sweep in a folder stands, from what is there alone.

        Raises:
            UsageError: if there is no sweep.
        """
        plan = folder.plan
        tally = cls(checked(SweepOptions, plan["options"], str(folder.path / PLAN)))
        driven = folder.driven
        for entry in folder.entries:
            tally.enter(entry, entry.name, folder.look(entry.name, tally.options.objective))
            error = folder.given_up(entry.name, tally.options.retries)
            attempts = folder.attempts(entry.name)
            last = attempts[-1] if attempts else {}
            if error is not None:
                tally.failed[entry.name] = error
            elif driven and last.get("outcome") == "started" and tally.looks[entry.name].status != "finished":
                tally.started(entry.name)
            elif last.get("outcome") == "dropped" and isinstance(last.get("after"), int):
                tally.dropped[entry.name] = last["after"]
                tally.dropped_by[entry.name] = clean(str(last.get("chosen_on", "")))
        return tally

    def enter(self, entry: Entry, group: str, look: LogSummary) -> None:
        """Take in a run."""
        self._done = self._varied = self._rows = None
        self.entries[entry.name], self.groups[entry.name], self.looks[entry.name] = entry, group, look
        if look.status == "finished":
            self.finished.add(entry.name)
            self.times.setdefault(_kind(entry), []).append(look.seconds)

    def started(self, name: str) -> None:
        """Take in that a run has started."""
        self.running[name] = Running(time.monotonic())
        self.most = max(self.most, len(self.running))

    def heard(self, heard: JobProgress) -> None:
        """Take in how far a run is."""
        if heard.name in self.running:
            self.running[heard.name].heard = heard

    def ended(self, outcome: Outcome, look: LogSummary) -> None:
        """Take in what became of a run, and what its log says now."""
        self._done = self._rows = None
        self.running.pop(outcome.name, None)
        self.looks[outcome.name] = look
        if look.status == "finished":
            self.finished.add(outcome.name)
            self.times.setdefault(_kind(self.entries[outcome.name]), []).append(look.seconds)

    @property
    def done(self) -> list[str]:
        """The runs that are finished, those of the best setting first; references among them."""
        if self._done is None:
            found = [name for name in self.entries if name in self.finished]  # those alike stay in order
            means = {setting: self._mean(names, self.rows) for setting, names in self._settings(found).items()}
            first = {setting: place for place, setting in enumerate(means)}
            self._done = sorted(
                found,
                key=lambda name: (
                    self._place(name, means[self.entries[name].setting]),
                    first[self.entries[name].setting],
                    self._place(name, self.score(name)),
                ),
            )
        return self._done

    def _place(self, name: str, score: float) -> float:
        return _worse(score, self.options.better * self.looks[name].way)

    def _settings(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return runs by their setting: those of one have seeds of the same method each."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self.entries[name].setting, []).append(name)
        return found

    def _mean(self, names: Sequence[str], rows: Rows | None) -> float:
        """Return the objective, on these rows, of runs that differ in seeds alone: the mean over their seeds."""
        counts = [len(self.entries[name].seeds) for name in names]
        scores = [self.looks[name].on(rows) for name in names]
        return sum(count * score for count, score in zip(counts, scores, strict=True)) / max(1, sum(counts))

    @property
    def rows(self) -> Rows | None:
        """The rows that the order of the runs goes by; None: the objective is of none."""
        if self._rows is None:
            own = [name for name in self.entries if name in self.finished and not self.entries[name].reference]
            self._rows = (rows_of((self.looks[name] for name in own), self.options),)
        return self._rows[0]

    def score(self, name: str) -> float:
        """Return the objective of a run on the rows that choices go by; NaN: not measured."""
        return self.looks[name].on(self.rows)

    @property
    def varied(self) -> list[str]:
        """The keys in which runs differ, ``seeds`` the last of them if they do."""
        if self._varied is None:
            met: dict[str, set[str]] = {}
            counts: Counter[str] = Counter()
            for entry in self.entries.values():
                for key, value in entry.changes.items():
                    met.setdefault(key, set()).add(json.dumps(value))
                    counts[key] += 1
            self._varied = [key for key in met if len(met[key]) > 1 or counts[key] < len(self.entries)]
            if len({tuple(entry.seeds) for entry in self.entries.values()}) > 1:
                self._varied.append("seeds")
        return self._varied

    def label(self, name: str, seeds: bool = True) -> str:
        """Return what a run is called for people: scenario, strategy, and in what it differs from others, be it in seeds."""
        entry = self.entries[name]
        own = [f"{key} = {value}" for key, value in entry.changes.items() if key in self.varied]
        own += [f"seed {', '.join(map(str, entry.seeds))}"] if seeds and "seeds" in self.varied else []
        return one_line(", ".join([entry.scenario, entry.strategy, *own, *(["reference"] if entry.reference else [])]))

    @property
    def waiting(self) -> int:
        """How many runs neither have ended nor run."""
        return len(self.entries) - len({*self.finished, *self.running, *self.failed, *self.dropped})

    @property
    def best(self) -> list[str]:
        """The runs of the best setting so far that is no reference, by the mean over seeds; several where seeds are spread."""
        own = self._settings(name for name in self.done if not self.entries[name].reference)
        return next((names for names in own.values() if math.isfinite(self._mean(names, self.rows))), [])

    @property
    def left(self) -> float:
        """Seconds that are left, from the runs that are done; NaN before there is one."""
        every = [seconds for times in self.times.values() for seconds in times]
        if not every:
            return math.nan
        mean = sum(every) / len(every)
        total = 0.0
        for name, entry in self.entries.items():
            if name in self.finished or name in self.failed or name in self.dropped:
                continue
            known = self.times.get(_kind(entry))
            share = 1.0
            if name in self.running and (heard := self.running[name].heard) and heard.of:
                share = 1 - heard.learned / heard.of
            total += share * (sum(known) / len(known) if known else mean)
        return total / self.most

    def counts(self) -> str:
        """Return the counts in words: ``12 of 24 done, 2 running, 1 failed, 9 waiting``."""
        parts = [f"{len(self.finished)} of {len(self.entries)} done"]
        named = (("running", self.running), ("failed", self.failed), ("dropped", self.dropped))
        parts += [f"{len(names)} {word}" for word, names in named if names]
        parts += [f"{self.waiting} waiting"] if self.waiting else []
        return ", ".join(parts)

    def shown_best(self) -> str:
        """Return the best run so far with its objective, in words; empty before there is one."""
        best = self.best
        if not best:
            untold = any(not self.entries[name].reference for name in self.finished)
            if any(self.looks[name].several for name in self.finished):
                return (
                    f"tasks are measured by several things, so there is no {self.options.objective} over them and no best run: "
                    "`compare` tells of each"
                )
            on = f" on {self.options.objective_on} rows" if self.options.objective_on else ""
            return f"no run has measured {self.options.objective}{on}, so none is the best" if untold else ""
        tested = f"; {self.shown(self._mean(best, 'test'))} on test rows" if self.rows == "validation" else ""
        chosen = f" ({self.chosen_on}{tested})" if self.rows else ""
        said = f"best {self.options.objective} {self.shown(self._mean(best, self.rows))}{chosen}: "
        if len(best) == 1:
            return said + self.label(best[0])
        seeds = sum(len(self.entries[name].seeds) for name in best)
        return f"{said}{self.label(best[0], seeds=False)}, mean over {seeds} seeds"

    @property
    def chosen_on(self) -> str:
        """The rows that choices go by, in words; empty where by none."""
        return CHOSEN_ON[self.rows]

    @property
    def warning(self) -> str:
        """A sentence on what the order of runs means, where they are ordered by scores; else empty."""
        if not self.rows or len(self.entries) < 2:
            return ""
        ordered = f"These runs are ordered by {METRICS[self.options.objective].title}, {self.chosen_on}: "
        if self.rows == "validation":
            return (
                f"{ordered}test rows took no part in the choice, so that the score of the best one on them is a result"
            )
        why = ""
        if self.options.objective_on is None:
            why = (
                " (fwt is measured on no others)"
                if self.options.objective == "fwt"
                else "; to choose on validation rows every run needs some (stream.validation sets them aside)"
            )
        return (
            f"{ordered}that of the best "
            f"one is no result, for it was picked by the rows that it is measured on; run what was chosen on other seeds{why}"
        )

    def shown(self, score: float) -> str:
        """Return a value of the objective as people read it."""
        shown = {"memory": size, "seconds": duration}.get(self.options.objective)
        return shown(score) if shown else number(score, signed=self.options.objective in ("bwt", "fwt"))

    def sentence(self, outcome: Outcome) -> str:
        """Return a line about what became of a run; empty if there is nothing to say."""
        name = outcome.name
        what = self.label(name)
        counted = f"{len(self.finished)}/{len(self.entries)}"
        if outcome.said == "finished":
            on = " on validation rows" if self.rows == "validation" else ""
            score = f"{self.options.objective} {self.shown(self.score(name))}{on}"
            return f"{counted} {what}: {score}, {duration(outcome.seconds)}"
        if outcome.said in ("failed", "died", "refused", "lost"):
            next_ = "given up" if name in self.failed else "tried again"
            if outcome.said == "lost":
                next_ = "goes on elsewhere"
            return f"{counted} {what}: {outcome.said}, {next_}: {one_line(outcome.error)}"
        if outcome.said == "stopped":
            return f"{counted} {what}: stopped after {self.looks[name].learned} experience(s)"
        return ""


def _kind(entry: Entry) -> str:
    return f"{entry.scenario}-{entry.strategy}"


def _worse(score: float, better: int) -> float:
    return math.inf if math.isnan(score) else -better * score
