"""Policies: for each budget of labelled tasks the ways that are worth most together, beside policies drawn at random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_engine.analysis.taxonomy.affinities import Affinities, Way
from cl_engine.analysis.taxonomy.supervision import Edge, Supervision, cheapest, feasible_at_random, solve
from cl_engine.errors import UsageError, unknown

Array = np.ndarray
OBJECTIVES = {
    "affinity": "affinity",
    "quality": "quality",
    "gain": "gain",
    "accuracy": "score",
    "matched_gain": "matched_gain",
}
Ways = dict[tuple[tuple[Any, ...], Any], Way]  # by sources and target
DRAWS = 200  # policies at random for each budget


@dataclass(frozen=True)
class Policy:
    """A policy for a budget: who is trained with all labels, and how each task is answered.

    A task that is trained is answered by its own net; every other reads nets of trained ones, from few labels.

    >>> Policy(1, (0,), frozenset({0, 1}), (), 1.8, 0.55, np.array([0.93, 0.95]), np.array([0.5, 0.5])).score.mean().round(2)
    np.float64(0.94)

    Attributes:
        budget: tasks that may be trained with labels that cost.
        trained: the tasks that are, those whose labels are free among them.
        paid: tasks whose labels cost.
        ways: one a task.
        worth: sum of the objective over the tasks.
        share: labels needed, of those that all tasks would need.
        score: mean over tasks of their measure, by seed ``[S]``, on the validation rows that the choice was made on; NaN where
            tasks are measured by several things.
        quality: mean win rate against full supervision ``[S]``, likewise.
    """

    budget: int
    trained: tuple[int, ...]
    paid: frozenset[int]
    ways: tuple[Way, ...]
    worth: float
    share: float
    score: Array = field(repr=False)
    quality: Array = field(repr=False)


@dataclass(frozen=True)
class Plans:
    """The best policy for every budget, and what policies at random come to.

    >>> Plans("quality", 1, (), ()).order
    1

    Attributes:
        objective: what is maximised, a key of `OBJECTIVES`.
        order: most nets that a way may read.
        best: a policy for each budget, from the least that reaches every task to one for every task that costs.
        random: policies drawn at random for the same budgets.
    """

    objective: str
    order: int
    best: tuple[Policy, ...]
    random: tuple[tuple[Policy, ...], ...] = field(repr=False)

    def at(self, budget: int) -> Policy:
        """Return the policy for a budget.

        Raises:
            UsageError: if there is none: it is too little, or more than there are tasks that cost.
        """
        least, most = self.best[0].budget, self.best[-1].budget
        if budget < least:
            raise UsageError(
                f"budget: found {budget}; the cheapest policy that reaches every task trains {least} with labels"
            )
        if budget > most:
            raise UsageError(f"budget: found {budget}; {most} tasks cost labels, so that more changes nothing")
        return self.best[budget - least]


def planned(
    affinities: Affinities,
    objective: str = "affinity",
    order: int | None = None,
    free: Iterable[str] | None = None,
    draws: int = DRAWS,
) -> Plans:
    """Return the best policies for all budgets (Zamir et al. 2018, §3.4), from ways that every seed probed.

    Args:
        affinities: what ways are worth; means over seeds are maximised.
        objective: what of them.
        order: most nets that a way may read; left out: as many as were probed.
        free: names of the tasks whose labels cost nothing; left out: those of which the log says so.
        draws: policies at random for each budget.

    Raises:
        UsageError: if there is no such objective, order or task, the tasks' accuracies cannot be summed, or a task cannot be
            reached.
    """
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    if objective == "accuracy" and affinities.higher is None:
        raise UsageError(
            "objective accuracy: the tasks are measured by several things, which do not add up; quality does"
        )
    named = [affinities.names[task] for task in affinities.free] if free is None else list(free)
    odd = next((name for name in named if name not in affinities.names), None)
    if odd is not None:
        raise unknown("task", odd, affinities.names)
    if order is not None and not 1 <= order <= affinities.order:
        raise UsageError(f"order: found {order}; transfers that read 1 to {affinities.order} nets were probed")
    most = affinities.order if order is None else order
    without = frozenset(affinities.names.index(name) for name in named)
    ways = _usable(affinities, objective, most)
    sign = -1 if objective == "accuracy" and not affinities.higher else 1
    edges = [Edge(sources, target, sign * way.mean(OBJECTIVES[objective])) for (sources, target), way in ways.items()]
    costs = {task: float(task not in without) for task in range(len(affinities.names))}
    paid = frozenset(task for task, cost in costs.items() if cost)
    best, random = [], []
    for budget in range(round(cheapest(edges, costs, own_nets=True)), len(paid) + 1):
        found = solve(edges, costs, budget, own_nets=True)
        best.append(_policy(budget, found, ways, affinities, paid))
        drawn = feasible_at_random(edges, costs, budget, draws, seed=budget, own_nets=True)
        random.append(tuple(_policy(budget, each, ways, affinities, paid) for each in drawn))
    return Plans(objective, most, tuple(best), tuple(random))


def _usable(affinities: Affinities, objective: str, order: int) -> Ways:
    """Return the ways that a policy can take, by sources and target: a task's own net, and what reads others' nets.

    Raises:
        UsageError: if a task has none.
    """
    found: Ways = {}
    for way in affinities.ways:
        if not np.isfinite(way.mean(OBJECTIVES[objective])):
            continue
        if way.kind == "full":
            found[(way.target,), way.target] = way
        elif way.kind == "transfer" and len(way.sources) <= order and way.target not in way.sources:
            found[way.sources, way.target] = way
    reached = {target for _, target in found}
    lacking = [name for target, name in enumerate(affinities.names) if target not in reached]
    if lacking:
        raise UsageError(
            f"no policy reaches {', '.join(lacking)}: no way to it has a number for the objective {objective} in every seed"
        )
    return found


def _policy(
    budget: int,
    found: Supervision,
    ways: Ways,
    affinities: Affinities,
    paid: frozenset[int],
) -> Policy:
    taken = tuple(ways[edge.sources, edge.target] for edge in found.edges)
    trained = tuple(way.target for way in taken if way.kind == "full")
    whole = sum(affinities.labels[task] for task in paid)
    used = sum(
        affinities.labels[way.target] if way.kind == "full" else way.labels for way in taken if way.target in paid
    )
    score, quality = (np.mean([way.values[name] for way in taken], axis=0) for name in ("score", "quality"))
    return Policy(
        budget=budget,
        trained=trained,
        paid=paid,
        ways=taken,
        worth=found.optimum,
        share=used / whole if whole else 0.0,
        score=np.full(len(score), np.nan) if affinities.higher is None else score,
        quality=quality,
    )
