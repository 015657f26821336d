"""Whom to label: optima of the official Taskonomy measurements, and the program against trying everything."""

from __future__ import annotations

import json
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import labels
from cl_engine.analysis.taxonomy.supervision import Edge, cheapest, feasible_at_random, solve
from cl_engine.errors import UsageError

OFFICIAL = Path(__file__).parents[1] / "benchmarks" / "taskonomy"
GOLDEN = json.loads((OFFICIAL / "golden.json").read_text())
COLUMNS = {"affinity": 2, "quality": 3, "gain": 4}


def official(file: str, objective: str) -> list[Edge]:
    """Return the published transfers; a target's own net is an edge from itself, and scratch is left out."""
    rows = json.loads((OFFICIAL / f"taskonomy_{file}.json").read_text())["rows"]
    found = [(sources, target, numbers[COLUMNS[objective] - 2]) for sources, target, *numbers in rows]
    return [
        Edge((target,) if sources == ["self"] else tuple(sources), target, value)
        for sources, target, value in found
        if sources != ["pixels"] and value is not None
    ]


def prices(edges: list[Edge], free: Any = ()) -> dict[Any, float]:
    return {source: float(source not in free) for edge in edges for source in edge.sources}


@pytest.mark.parametrize(
    ("file", "objective", "most"), [("16k", "affinity", 4), ("1k", "affinity", 4), ("16k", "quality", 1)]
)
@pytest.mark.parametrize("costs", ["every node costs 1", "self-supervised free"])
def test_the_optima_of_the_published_measurements_are_found(file: str, objective: str, most: int, costs: str):
    edges = official(file, objective)
    free = GOLDEN["free"] if costs == "self-supervised free" else ()
    golden = [
        each
        for each in GOLDEN["optima"]
        if (each["file"], each["objective"], each["costs"]) == (file, objective, costs) and each["budget"] <= most
    ]
    assert len(golden) >= (objective == "affinity") * 4
    for each in golden:
        if each["optimum"] is None:
            with pytest.raises(UsageError, match="cheapest policy that reaches every target costs 1"):
                solve(edges, prices(edges, free), each["budget"])
        else:
            found = solve(edges, prices(edges, free), each["budget"])
            assert found.optimum == pytest.approx(each["optimum"], abs=1e-6)
            assert sum(prices(edges, free)[source] for source in found.trained) <= each["budget"]


def test_a_budget_for_every_task_takes_the_best_edge_of_each():
    edges = official("16k", "affinity")
    best = {target: max(edge.value for edge in edges if edge.target == target) for target in {e.target for e in edges}}
    assert solve(edges, prices(edges), 26).optimum == pytest.approx(sum(best.values()))
    assert solve(edges, prices(edges), 22).optimum == pytest.approx(2.473190, abs=1e-6)


@st.composite
def programs(draw: Any) -> tuple[list[Edge], dict[int, float]]:
    """Small programs: edges of order 0 to 2 between at most six tasks, some of which are free."""
    tasks = draw(st.integers(2, 6))
    some = st.lists(st.integers(0, tasks - 1), max_size=2, unique=True)
    edges = [
        Edge(tuple(draw(some)), target, draw(st.integers(0, 8)) / 8)
        for target in range(draw(st.integers(1, tasks)))
        for _ in range(draw(st.integers(1, 5)))
    ]
    own = [Edge((target,), target, draw(st.integers(0, 8)) / 8) for target in {edge.target for edge in edges}]
    return edges + own, {task: float(draw(st.integers(0, 2))) for task in range(tasks)}


def tried(edges: list[Edge], costs: dict[int, float], budget: float, own: bool, choose: int | None) -> float | None:
    """Return the optimum by trying every set of trained tasks."""
    found = []
    for trained in chain.from_iterable(combinations(costs, size) for size in range(len(costs) + 1)):
        if sum(costs[task] for task in trained) > budget:
            continue
        best: dict[Any, float] = {}
        for edge in edges:
            barred = own and edge.target in trained and set(edge.sources) != {edge.target}
            if set(edge.sources) <= set(trained) and not barred:
                best[edge.target] = max(best.get(edge.target, -1.0), edge.value)
        asked = len({edge.target for edge in edges}) if choose is None else choose
        if len(best) >= asked:
            found.append(sum(sorted(best.values())[-asked:]))
    return max(found) if found else None


@settings(max_examples=60, deadline=None)
@given(programs(), st.integers(0, 6), st.booleans(), st.booleans())
def test_the_program_finds_what_trying_everything_finds(program: Any, budget: int, own: bool, some: bool):
    edges, costs = program
    choose = max(1, len({edge.target for edge in edges}) - 1) if some else None
    golden = tried(edges, costs, budget, own, choose)
    if golden is None:
        with pytest.raises(UsageError, match=f"cheapest .* costs {cheapest(edges, costs, choose, own):g}"):
            solve(edges, costs, budget, choose_targets=choose, own_nets=own)
        return
    found = solve(edges, costs, budget, choose_targets=choose, own_nets=own)
    assert found.optimum == pytest.approx(golden)
    assert sum(costs[source] for source in found.trained) <= budget
    assert all(set(edge.sources) <= set(found.trained) for edge in found.edges)
    if own:
        assert all(edge.sources == (edge.target,) for edge in found.edges if edge.target in found.trained)


@settings(max_examples=20, deadline=None)
@given(programs())
def test_more_budget_is_never_worth_less(program: Any):
    edges, costs = program
    least = cheapest(edges, costs)
    worth = [solve(edges, costs, budget).optimum for budget in np.arange(least, sum(costs.values()) + 1)]
    assert worth == sorted(worth)


def test_importance_decides_for_whom_the_budget_is_spent():
    edges = [Edge(("a",), "a", 1.0), Edge(("b",), "b", 0.9), Edge(("a",), "b", 0.1), Edge(("b",), "a", 0.1)]
    costs = {"a": 1.0, "b": 1.0}
    assert solve(edges, costs, 1).trained == ("a",)
    assert solve(edges, costs, 1, importance={"b": 2.0}).trained == ("b",)


def test_policies_drawn_at_random_keep_to_the_budget_and_are_never_worth_more_than_the_best():
    edges = official("16k", "affinity")
    drawn = feasible_at_random(edges, prices(edges), 3, 20, seed=1)
    assert len(drawn) == 20
    assert drawn == feasible_at_random(edges, prices(edges), 3, 20, seed=1)
    best = solve(edges, prices(edges), 3).optimum
    for each in drawn:
        assert len(each.trained) <= 3
        assert {edge.target for edge in each.edges} == {edge.target for edge in edges}
        assert each.optimum <= best


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"budget": -1}, r"budget: found -1; the cheapest policy that reaches every target costs 1"),
        ({"budget": 0}, r"budget: found 0; the cheapest policy that reaches every target costs 1"),
        ({"budget": 1, "choose_targets": 3}, "targets to choose: found 3; there are 2"),
        ({"budget": 1, "edges": []}, "there are no edges"),
        ({"budget": 1, "edges": [Edge(("a",), "b", float("nan"))]}, "from a to b is worth nan"),
        ({"budget": 1, "edges": [Edge(("c",), "b", 1.0)]}, "costs: there is none for the source c"),
        (
            {"budget": 2, "own_nets": True, "edges": [Edge(("a",), "b", 1), Edge(("b",), "a", 1)]},
            "no policy reaches every target",
        ),
        (
            {"budget": 3, "time_limit": 1e-4, "edges": official("1k", "quality")},
            "proved to be the best within 0.0001 s",
        ),
    ],
)
def test_a_program_without_an_answer_says_why(asked: dict[str, Any], said: str):
    edges = asked.pop("edges", [Edge(("a",), "a", 1.0), Edge(("a",), "b", 0.5)])
    costs = prices(edges) if len(edges) > 2 else {"a": 1.0, "b": 1.0}
    with pytest.raises(UsageError, match=said):
        solve(edges, costs, **asked)


def test_one_task_is_answered_by_its_own_net():
    found = solve([Edge((0,), 0, 0.7)], {0: 1.0}, 1)
    assert (found.trained, found.optimum) == ((0,), 0.7)


def test_what_was_published_holds_together():
    for file in ("1k", "16k", "unstated"):
        rows = json.loads((OFFICIAL / f"taskonomy_{file}.json").read_text())["rows"]
        sums: dict[str, float] = {}
        best: dict[str, tuple[float, str]] = {}
        for sources, target, affinity, quality, _ in rows:
            if affinity is not None:
                sums[target] = sums.get(target, 0.0) + affinity
                if len(sources) == 1 and sources[0] not in ("self", "random", "pixels", target):
                    best[target] = max(best.get(target, (0.0, "")), (affinity, sources[0]))
            if sources == ["self"]:
                assert quality == 0.5
        np.testing.assert_allclose(list(sums.values()), 1, atol=1e-9)
        assert {target: source for target, (_, source) in best.items()} == GOLDEN["best_first_order_source"][file]


@pytest.mark.parametrize(("file", "quality", "gain"), [("16k", 0.461, 0.816), ("1k", 0.385, 0.787)])
def test_the_best_ten_tasks_for_three_trained_ones_come_as_near_to_full_supervision_as_published(
    file: str, quality: float, gain: float
):
    found, means = labels.best(labels.published(file), 3, choose=10)
    assert len(found.edges) == 10
    assert means[1:] == pytest.approx([quality, gain], abs=0.001)
