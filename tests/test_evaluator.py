"""Tests of a run: what is tested again, what is not, and what is tested together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_engine.data.stream import Data
from cl_engine.engine import evaluator as examination
from cl_engine.engine import loop
from cl_engine.engine.agenda import plan
from cl_engine.engine.evaluator import Evaluator
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed
from cl_engine.events import Evaluated, Event, ScoresReused, cells
from cl_engine.experiment import Experiment
from cl_engine.strategy import Strategy
from cl_engine.targets.classes import Classes
from cl_engine.testing import small

Tiny = Callable[..., Experiment]


def walked(
    experiment: Experiment, change: Callable[[Strategy], object] = lambda strategy: None, **options: Any
) -> list[Event]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    change(strategy)
    return list(simulate(stream, strategy, plan(stream, experiment.agenda), **options))


def evaluated(events: list[Event]) -> list[Evaluated]:
    return [cell for event in events for cell in cells(event)]


@pytest.mark.parametrize("strategy", ["independent", "piggyback"])
def test_spot_checks_find_nothing_where_the_fingerprint_tells_all(tiny: Tiny, strategy: str):
    assert evaluated(walked(tiny(strategy), spot_checks=1.0)) == evaluated(walked(tiny(strategy)))


def test_a_fingerprint_that_leaves_something_out_ends_the_run_with_a_sentence(tiny: Tiny):
    def forgetful(strategy: Strategy) -> None:
        strategy.fingerprint = lambda task_id: 0  # type: ignore[method-assign]

    experiment = tiny("finetune", **{"train.lr": 0.1, "train.epochs": 5})
    assert any(isinstance(event, ScoresReused) for event in walked(experiment, forgetful))
    with pytest.raises(RunFailed, match=r"strategy 'finetune' gives task 0 the fingerprint of before, but at step \d"):
        walked(experiment, forgetful, spot_checks=1.0)


def test_a_share_of_the_scores_taken_over_is_checked(tiny: Tiny):
    def counting(strategy: Strategy) -> None:
        predict = strategy.predict

        def counted(x: torch.Tensor, task_id: int | None) -> torch.Tensor:
            calls.append(task_id)
            return predict(x, task_id)

        strategy.predict = counted  # type: ignore[method-assign]

    experiment = tiny("independent", (0,), **{"stream.n": 30, "train.epochs": 1, "agenda.curve_batches": 0})
    counts = []
    for share in (0.0, 0.5, 1.0):
        calls: list[int | None] = []
        walked(experiment, counting, spot_checks=share)
        counts.append(len(calls))
    none, half, every = counts
    assert every - none == 30 * 29 // 2
    assert 0.3 < (half - none) / (every - none) < 0.7


def test_left_to_itself_it_checks_no_more_than_it_tests_anyway(tiny: Tiny):
    checked: list[int] = []

    def watching(strategy: Strategy) -> None:
        predict = strategy.predict

        def watched(x: torch.Tensor, task_id: int | None) -> torch.Tensor:
            checked.extend([task_id] if task_id is not None and len(x) > 1 and task_id < newest(strategy) else [])
            return predict(x, task_id)

        strategy.predict = watched  # type: ignore[method-assign]

    def newest(strategy: Strategy) -> int:
        return len(next(iter(strategy.state["nets"].values()))) - 1

    many = {"stream.n": 300, "train.epochs": 1, "agenda.curve_batches": 0, "agenda.evaluate_ahead": 0}
    experiment = tiny(
        "independent", (0,), **{**many, "stream.samples_per_class": 1, "stream.test_samples_per_class": 2}
    )
    events = walked(experiment, watching, spot_checks=None)
    assert evaluated(events) == evaluated(walked(experiment))
    # one in a hundred would be up to three after an experience, and 448 in all
    assert 150 < len(checked) <= 299


@pytest.mark.parametrize("agenda", [{"agenda.curve_batches": 1, "agenda.curve_tasks": 2}, {"agenda.curve_batches": 0}])
def test_rows_are_tested_in_one_drawn_order_that_tells_nothing_of_their_classes(tiny: Tiny, agenda: dict[str, int]):
    experiment = tiny("independent", (0,), **agenda)
    stream = experiment.stream()
    sorted_by_class = [stream.test(task).y for task in range(3)]
    assert all(bool((y.diff() >= 0).all()) for y in sorted_by_class)
    tested: list[tuple[int, ...]] = []
    shuffle = Data.shuffled

    def noting(data: Data, seed: int = 0) -> Data:
        found = shuffle(data, seed)
        tested.append(tuple(found.y.tolist()))
        return found

    measured = Classes.sums_by_seed

    def measuring(target: Classes, outputs: Tensor, y: Tensor) -> np.ndarray:
        tested.append(tuple(y.tolist()))
        return measured(target, outputs, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Data, "shuffled", noting)
        patch.setattr(Classes, "sums_by_seed", measuring)
        walked(experiment)
    assert len(set(tested)) == 1  # of tasks with as many rows of each class
    assert sorted(tested[0]) == sorted_by_class[0].tolist() != list(tested[0])
    assert len(set(tested[0][:8])) > 3


def test_the_order_of_rows_follows_the_seed_of_the_stream(tiny: Tiny):
    def first(seed: int) -> list[int]:
        experiment = tiny("finetune", (0,), **{"stream.seed": seed})
        stream = experiment.stream()
        return Evaluator(stream, experiment.build_strategy(stream)).test(0).y.tolist()

    assert first(0) == first(0) != first(1)


def test_test_rows_are_kept_only_where_they_are_asked_for_again_and_again(tiny: Tiny):
    def made(strategy: str, change: Callable[[Strategy], object], **options: Any) -> tuple[list[int], int]:
        experiment = tiny(strategy, (0,), **{"stream.n": 8, "train.epochs": 1, "agenda.curve_batches": 0, **options})
        stream = experiment.stream()
        learner, found, test = experiment.build_strategy(stream), [], stream.test
        change(learner)
        stream.test = lambda task: (found.append(task), test(task))[1]  # type: ignore[method-assign,func-returns-value]
        examiner = Evaluator(stream, learner, 0.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "Evaluator", lambda *_: examiner)
            for _ in simulate(stream, learner, plan(stream, experiment.agenda)):
                pass
        return [found.count(task) for task in range(8)], len(examiner._tests)

    def changing(strategy: Strategy) -> None:
        versions = count()
        strategy.fingerprint = lambda task_id: next(versions)  # type: ignore[method-assign]

    alone = {"agenda.evaluate_ahead": 0}
    assert made("independent", lambda strategy: None, **alone) == ([1] * 8, 0)
    assert made("finetune", lambda strategy: None, **alone) == ([1] * 8, 7)
    assert made("finetune", changing, **alone) == ([1] * 8, 7)
    again, kept = made(
        "skill_recall", lambda strategy: None, **alone
    )  # two nets wait, then two skills are encoded again
    assert max(again) <= 4
    assert kept <= 2


@pytest.mark.parametrize("setting", ["domain", "class"])
def test_few_rows_of_several_tasks_are_tested_in_one_pass_with_the_same_counts(tiny: Tiny, setting: str):
    calls: list[int] = []

    def counting(strategy: Strategy) -> None:
        predict = strategy.predict

        def counted(x: torch.Tensor, task_id: int | None) -> torch.Tensor:
            calls.append(len(x))
            return predict(x, task_id)

        strategy.predict = counted  # type: ignore[method-assign]

    def apart(strategy: Strategy) -> None:
        counting(strategy)
        strategy.rowwise = False  # type: ignore[misc]

    experiment = tiny("finetune", **{"stream.setting": setting, "agenda.evaluate_ahead": 0, "agenda.curve_batches": 0})
    together = evaluated(walked(experiment, counting))
    first, calls = calls, []
    assert evaluated(walked(experiment, apart)) == together
    # a row for the operations after each experience, then all tasks met so far, of 50 rows each
    assert first == [1, 50, 1, 100, 1, 150]
    assert calls == [1, 50, 1, 50, 50, 1, 50, 50, 50]


# Tasks of other kinds than classes.


def test_sums_over_pieces_of_the_rows_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    experiment = Experiment.of(small.views(), "finetune")
    stream = experiment.stream()
    evaluator = Evaluator(stream, experiment.build_strategy(stream))
    whole = [next(evaluator.untrained([task])).sums for task in range(5)]
    monkeypatch.setattr(examination, "ROWS_OF_PLACES", 4)
    for task in range(5):
        pieces = next(evaluator.untrained([task])).sums
        assert pieces == pytest.approx(whole[task], rel=1e-5, nan_ok=True), stream.name_of(task)


def test_a_spot_check_of_a_task_that_asks_for_maps_tells_its_measure():
    def forgetful(strategy: Strategy) -> None:
        strategy.fingerprint = lambda task_id: 0  # type: ignore[method-assign]

    experiment = Experiment.of(small.views(), "finetune", **{"stream.views": ["depth", "shape"], "train.lr": 0.1})
    with pytest.raises(RunFailed, match=r"at step 1 reaches delta_1 0\.\d+ \(seed 0\), not 0\.\d+: its `fingerprint`"):
        walked(experiment, forgetful, spot_checks=1.0)
