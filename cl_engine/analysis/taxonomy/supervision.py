"""Whom to label: the Boolean program of Taskonomy, solved exactly, and policies drawn at random to hold its answer against."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from cl_engine.errors import UsageError

TRIES = 1000  # sets of tasks drawn until one of them reaches every target


@dataclass(frozen=True)
class Edge:
    """A way to answer a target: it needs all its sources trained, and is worth ``value``.

    A target that is trained itself, and answered by its own net, is an edge from the target to itself.

    >>> Edge(("depth", "edges"), "normals", 0.4).sources
    ('depth', 'edges')
    """

    sources: tuple[Hashable, ...]
    target: Hashable
    value: float


@dataclass(frozen=True)
class Supervision:
    """A policy: an edge for each target, the tasks that are trained for them, and what the edges are worth together.

    >>> edges = [Edge(("a",), "a", 1.0), Edge(("a",), "b", 0.5), Edge(("b",), "b", 0.9), Edge(("b",), "a", 0.7)]
    >>> found = solve(edges, {"a": 1, "b": 1}, budget=1)
    >>> found.trained, found.optimum
    (('b',), 1.6)
    """

    edges: tuple[Edge, ...]
    trained: tuple[Hashable, ...]
    optimum: float


def solve(
    edges: Sequence[Edge],
    costs: Mapping[Any, float],
    budget: float,
    importance: Mapping[Any, float] | None = None,
    choose_targets: int | None = None,
    own_nets: bool = False,
    time_limit: float = 120.0,
) -> Supervision:
    """Return the policy worth most among those whose trained tasks cost no more than the budget (Zamir et al. 2018, §3.4).

    Maximised is the sum of ``importance[target] · value`` over the edges taken: one for each target, each with all its sources
    trained. (Eq. 6 of the first version on arXiv lacks a line and is infeasible as printed.) Solved by HiGHS to a gap of zero.

    Args:
        edges: all ways there are.
        costs: of each source; 0 for one whose labels are free.
        budget: what the trained tasks may cost together.
        importance: of each target; left out: 1.
        choose_targets: how many targets are to be reached, which being chosen too; left out: all.
        own_nets: whether a target that is trained must be answered by its own net.
        time_limit: seconds after which the search is given up.

    Raises:
        UsageError: if the budget is less than the cheapest policy costs, which it says; no budget reaches every target; a value
            is NaN; or the time is up.
    """
    program = _Program(edges, costs, importance or {}, choose_targets, own_nets, time_limit)
    found = program.solved(budget) if budget >= 0 else None
    if found is None:
        least = cheapest(edges, costs, choose_targets, own_nets, time_limit)
        raise UsageError(f"budget: found {budget:g}; the cheapest policy that reaches every target costs {least:g}")
    return found


def cheapest(
    edges: Sequence[Edge],
    costs: Mapping[Any, float],
    choose_targets: int | None = None,
    own_nets: bool = False,
    time_limit: float = 120.0,
) -> float:
    """Return the least budget that reaches every target (or as many as are to be chosen).

    Raises:
        UsageError: if none does.
    """
    found = _Program(edges, costs, {}, choose_targets, own_nets, time_limit).solved(None)
    if found is None:
        raise UsageError("no policy reaches every target, whatever the budget")
    return sum(costs[source] for source in found.trained)


def feasible_at_random(
    edges: Sequence[Edge],
    costs: Mapping[Any, float],
    budget: float,
    draws: int,
    seed: int = 0,
    own_nets: bool = False,
) -> list[Supervision]:
    """Return policies drawn at random: tasks in any order while the budget lasts, then for each target any edge they allow.

    Raises:
        UsageError: if no set of tasks among a thousand reaches every target.
    """
    random, by_target = np.random.default_rng(seed), _by_target(edges)
    nodes = list(costs)
    found = []
    for _ in range(draws):
        for _ in range(TRIES):
            trained, left = set(), budget
            for place in random.permutation(len(nodes)):
                if costs[nodes[place]] <= left + 1e-9:
                    trained.add(nodes[place])
                    left -= costs[nodes[place]]
            allowed = {target: _allowed(of, trained, own_nets) for target, of in by_target.items()}
            if all(allowed.values()):
                break
        else:
            raise UsageError(f"budget {budget:g}: none of {TRIES} sets of tasks drawn at random reaches every target")
        taken = tuple(each[random.integers(len(each))] for each in allowed.values())
        found.append(Supervision(taken, _sources(taken), sum(edge.value for edge in taken)))
    return found


class _Program:
    """The Boolean program: a variable for each edge, each source, and each target that may be left out."""

    def __init__(
        self,
        edges: Sequence[Edge],
        costs: Mapping[Any, float],
        importance: Mapping[Any, float],
        choose_targets: int | None,
        own_nets: bool,
        time_limit: float,
    ) -> None:
        odd = next((edge for edge in edges if not np.isfinite(edge.value)), None)
        if odd is not None:
            raise UsageError(
                f"the edge from {_named(odd.sources)} to {odd.target} is worth {odd.value}, which is no number"
            )
        self.by_target = _by_target(edges)
        lacking = next((source for edge in edges for source in edge.sources if source not in costs), None)
        if lacking is not None:
            raise UsageError(f"costs: there is none for the source {lacking}")
        if not self.by_target:
            raise UsageError("there are no edges, and so no targets")
        if choose_targets is not None and not 1 <= choose_targets <= len(self.by_target):
            raise UsageError(f"targets to choose: found {choose_targets}; there are {len(self.by_target)}")
        self.costs, self.importance, self.choose, self.own = costs, importance, choose_targets, own_nets
        self.time_limit = time_limit
        self.edges = [edge for of in self.by_target.values() for edge in _undominated(of)]
        self.nodes, self.targets = list(costs), list(self.by_target)

    def solved(self, budget: float | None) -> Supervision | None:
        """Return the policy worth most, or without a budget the cheapest; None if there is none.

        Raises:
            UsageError: if the time is up.
        """
        x, y, z = len(self.edges), len(self.nodes), len(self.targets)
        price = np.array([float(self.costs[node]) for node in self.nodes])
        goal = np.zeros(x + y + z)
        if budget is None:
            goal[x : x + y] = price
        else:
            goal[:x] = [-self.importance.get(edge.target, 1.0) * edge.value for edge in self.edges]
        lowest, highest = np.zeros(x + y + z), np.ones(x + y + z)
        if self.choose is None:
            lowest[x + y :] = 1
        found = milp(
            goal,
            integrality=np.ones(x + y + z),
            bounds=Bounds(lowest, highest),
            constraints=self._constraints(price, np.inf if budget is None else budget),
            options={"time_limit": self.time_limit, "mip_rel_gap": 0},
        )
        if found.status == 1:
            raise UsageError(
                f"no policy was proved to be the best within {self.time_limit:g} s: allow fewer edges, or more time"
            )
        if found.x is None:
            return None
        kept = np.round(found.x).astype(bool)
        trained = {node for node, taken in zip(self.nodes, kept[x : x + y], strict=True) if taken}
        reached = [target for target, taken in zip(self.targets, kept[x + y :], strict=True) if taken]
        # of edges worth the same the one with the fewest sources
        taken = tuple(
            max(_allowed(self.by_target[target], trained, self.own), key=lambda edge: (edge.value, -len(edge.sources)))
            for target in reached
        )
        worth = sum(self.importance.get(edge.target, 1.0) * edge.value for edge in taken)
        return Supervision(taken, _sources(taken), worth)

    def _constraints(self, price: np.ndarray, budget: float) -> list[LinearConstraint]:
        x, y, z = len(self.edges), len(self.nodes), len(self.targets)
        node = {name: x + place for place, name in enumerate(self.nodes)}
        target = {name: x + y + place for place, name in enumerate(self.targets)}
        # of the edges of a target that need a source at most one is taken, and only with the source: a row for each source and
        # target, which leaves less between the program and its relaxation than one for each edge
        needs: dict[tuple[Any, Any], dict[int, float]] = {}
        barred: dict[Any, dict[int, float]] = {}
        for place, edge in enumerate(self.edges):
            for source in edge.sources:
                needs.setdefault((edge.target, source), {node[source]: -1.0})[place] = 1.0
            if self.own and edge.target in node and set(edge.sources) != {edge.target}:
                barred.setdefault(edge.target, {node[edge.target]: 1.0})[place] = 1.0
        rows, most = [*needs.values(), *barred.values()], [0.0] * len(needs) + [1.0] * len(barred)
        one = [{target[name]: -1.0} for name in self.targets]
        for place, edge in enumerate(self.edges):
            one[target[edge.target] - x - y][place] = 1
        few = np.zeros((2, x + y + z))
        few[0, x : x + y], few[1, x + y :] = price, 1
        chosen = z if self.choose is None else self.choose
        found = [
            LinearConstraint(_sparse(one, x + y + z), 0, 0),
            LinearConstraint(few, [-np.inf, chosen], [budget + 1e-9, chosen]),
        ]
        return [*found, LinearConstraint(_sparse(rows, x + y + z), -np.inf, most)] if rows else found


def _sparse(rows: Sequence[Mapping[int, float]], columns: int) -> Any:
    cells = [(number, column, value) for number, row in enumerate(rows) for column, value in row.items()]
    of, at, values = zip(*cells, strict=True)
    return csr_array((values, (of, at)), shape=(len(rows), columns))


def _by_target(edges: Sequence[Edge]) -> dict[Any, list[Edge]]:
    found: dict[Any, list[Edge]] = {}
    for edge in edges:
        found.setdefault(edge.target, []).append(edge)
    return found


def _undominated(edges: Sequence[Edge]) -> list[Edge]:
    """Return the edges of a target but those that need all that another needs and are worth no more; its own net stays."""
    kept: list[Edge] = []
    for edge in sorted(edges, key=lambda edge: (len(set(edge.sources)), -edge.value)):
        needs = set(edge.sources)
        own = needs == {edge.target}
        if own or not any(set(other.sources) <= needs and other.value >= edge.value for other in kept):
            kept.append(edge)
    return kept


def _allowed(edges: Sequence[Edge], trained: set[Any], own_nets: bool) -> list[Edge]:
    """Return the edges of a target that the trained tasks allow."""
    found = [edge for edge in edges if trained.issuperset(edge.sources)]
    if own_nets and edges[0].target in trained:
        return [edge for edge in found if set(edge.sources) == {edge.target}]
    return found


def _sources(edges: Sequence[Edge]) -> tuple[Hashable, ...]:
    return tuple(dict.fromkeys(source for edge in edges for source in edge.sources))


def _named(sources: Sequence[Hashable]) -> str:
    return " + ".join(map(str, sources)) or "nothing"
