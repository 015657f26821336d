"""What a sweep reads of a run's log: how far it is, and the objective that choices go by, on which rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import h5py
import numpy as np

from cl_engine.results.log_file import array
from cl_engine.results.validation import VALIDATED, group_of
from cl_engine.sweep.config import Rows, SweepOptions


@dataclass(frozen=True)
class LogSummary:
    """A look into a run's log: its status (``new`` without one), experiences learned, seconds, and the objective.

    ``scores`` are the objective after each evaluation that tested all tasks met, as (experiences learned, value), and
    ``validated`` the same on validation rows, where there are any;
    ``fault`` is what is wrong with a log that is ``damaged``. ``way`` is −1 where the objective is a score of which less is
    better; ``several`` says that tasks are measured by several things, so that there is no score over them.

    >>> LogSummary("finished", learned=3, scores=((2, 0.7), (3, 0.8))).score
    0.8
    """

    status: str = "new"
    learned: int = 0
    seconds: float = 0.0
    scores: tuple[tuple[int, float], ...] = ()
    fault: str = ""
    way: int = 1
    several: bool = False
    validated: tuple[tuple[int, float], ...] = ()

    @property
    def score(self) -> float:
        """The objective at the last such evaluation, on test rows where it is of rows; NaN without one."""
        return self.on("test")

    def on(self, rows: Rows | None) -> float:
        """Return the objective at the last such evaluation, on these rows where it is of rows; NaN without one."""
        return self.at(self.learned, rows)

    def at(self, learned: int, rows: Rows | None = "test") -> float:
        """Return the objective at the last such evaluation up to ``learned`` experiences, on these rows; NaN without one."""
        held = self.validated if rows == "validation" else self.scores
        found = [value for count, value in held if count <= learned]
        return found[-1] if found else math.nan


def rows_of(looks: Iterable[LogSummary], options: SweepOptions, learned: int | None = None) -> Rows | None:
    """Return the rows that a choice among runs goes by, told from their logs; None: the objective is of none.

    Where the sweep does not say it, validation rows if each of the runs that have measured the objective has done so on them
    too, else test rows: numbers of different rows are never held against each other. ``learned`` says after how many
    experiences; None: at the end.

    >>> rows_of([LogSummary("finished", 1, scores=((1, 0.7),))], SweepOptions(scenarios=["digits"], strategies=["replay"]))
    'test'
    """
    if not options.of_rows:
        return None
    if options.objective_on is not None:
        return options.objective_on
    values = [(look.at(at, "validation"), look.at(at)) for look in looks for at in [learned or look.learned]]
    measured = [math.isfinite(validated) for validated, tested in values if math.isfinite(tested)]
    return "validation" if measured and all(measured) else "test"


def summary_of(results: h5py.Group, status: str, objective: str) -> LogSummary:
    """Return what the group ``results`` of a log says of a run with this status."""
    seconds = np.nan_to_num(array(results, "seconds"))
    steps, acc = array(results, "evaluation_step"), array(results, "acc")
    measures, ways = {"accuracy"}, np.ones(1)  # before format 2.0
    if "task_measure" in results and len(results["task"]):
        measures, ways = set(array(results, "task_measure")), array(results, "task_direction")
    several = len(measures) > 1
    full = np.flatnonzero((np.isfinite(acc).all(axis=1) | several) & (steps >= 0))
    if objective == "memory":
        values = array(results, "memory").sum(axis=1)[steps[full]]
    elif objective == "seconds":
        values = seconds.sum(axis=1).cumsum()[steps[full]]
    elif several:
        return LogSummary(status, len(seconds), float(seconds.sum()), several=True)
    else:
        values = array(results, objective)[full].mean(axis=1)
    counts = [int(step) + 1 for step in steps[full]]
    scores = tuple(zip(counts, map(float, values), strict=True))
    validated: tuple[tuple[int, float], ...] = ()
    if objective in VALIDATED and (group := group_of(results)) is not None:
        validated = tuple(zip(counts, map(float, array(group, objective)[full].mean(axis=1)), strict=True))
    way = -1 if objective == "acc" and (ways < 0).all() else 1
    return LogSummary(status, len(seconds), float(seconds.sum()), scores, way=way, several=several, validated=validated)
