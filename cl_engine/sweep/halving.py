"""Successive halving over tasks: which runs continue after how many experiences, decided from their logs alone.

Jamieson & Talwalkar (2016), Algorithm 1, with experiences of the stream as the budget: all learn ``tasks`` of them, the
best one in ``factor`` goes on to ``factor`` times as many, and so forth, until one is left, which goes on to the end.
What is decided depends on logs only, so that a driver that starts again decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cl_engine.errors import UsageError
from cl_engine.sweep.config import HalvingOptions, Rows, SweepOptions
from cl_engine.sweep.log_summary import LogSummary, rows_of


@dataclass(frozen=True)
class Goal:
    """The next goal of a run: continue until ``until`` experiences (None: to the end), wait for others, or be dropped.

    Of one that is dropped, ``rows`` are those that it was chosen by; None: of none.

    >>> Goal(until=6).until
    6
    """

    until: int | None = None
    waits: bool = False
    dropped_at: int | None = None
    rows: Rows | None = None


def goals(
    group: Sequence[str], looks: Mapping[str, LogSummary], out: set[str], options: SweepOptions
) -> dict[str, Goal]:
    """Return the goal of every run of a group.

    Args:
        group: names of the runs that are compared with each other.
        looks: what their logs say.
        out: those that are given up: they fill no place and are waited for no longer.
        options: when to cut, how much, and by what.

    Raises:
        UsageError: if there is a choice to be made and none of the runs has measured the objective.
    """
    found: dict[str, Goal] = {}
    halving = options.halving or HalvingOptions()
    left, rung = [name for name in group if name not in out], halving.tasks
    while len(left) > 1:
        waiting = [name for name in left if looks[name].learned < rung and looks[name].status != "finished"]
        if waiting:
            return {**found, **{name: Goal(until=rung, waits=name not in waiting) for name in left}}
        if all(looks[name].status == "finished" and looks[name].learned <= rung for name in left):
            break  # the stream is no longer than this
        rows = rows_of((looks[name] for name in left), options, rung)
        if all(math.isnan(looks[name].at(rung, rows)) for name in left):
            raise UsageError(
                f"halving: after {rung} experience(s) none of {len(left)} runs has measured the objective, so none can be "
                f"chosen; the first of them is {left[0]}: {_instead(looks[left[0]], options)}"
            )
        kept = max(1, len(left) // halving.factor)
        places = {
            name: (_rank(looks[name].at(rung, rows), options.better * looks[name].way), group.index(name))
            for name in left
        }
        ranked = sorted(left, key=places.__getitem__)
        found |= {name: Goal(dropped_at=rung, rows=rows) for name in ranked[kept:]}
        left = [name for name in left if name in ranked[:kept]]
        rung *= halving.factor
    return {**found, **{name: Goal() for name in left}}


def _instead(look: LogSummary, options: SweepOptions) -> str:
    if look.several:
        return "its tasks are measured by several things, and no score is over them; choose memory or seconds as the objective"
    if options.objective_on == "validation" and look.scores and not look.validated:
        return "it has no scores on validation rows; set some aside (stream.validation), or choose on test rows (objective_on)"
    return "choose another objective, or cut later"


def _rank(score: float, better: int) -> float:
    """Return a number that is smaller for what is better; untested is worst."""
    return math.inf if math.isnan(score) else -better * score
