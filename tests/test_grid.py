"""The choice of rate, decay and epoch for each task, for the strategies that learn whole nets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cl_engine.data.stream import Data, Experience
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import CurvePoint, Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.runs.scenario import Scenario
from cl_engine.strategy import Strategy
from cl_engine.training.grid import Grid, GridPointTried, divided
from tests.conftest import TINY

GRID = {"lrs": [0.1, 1e-5], "weight_decays": [0.0, 0.01], "stream.validation": 0.2}
WITH_CURVE = {**GRID, "agenda.curve_batches": 2}


def learned(strategy: str, **options: Any) -> tuple[list[Event], Strategy, Experiment]:
    experiment = Experiment.of(TINY, strategy, (0, 1), **options)
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    events = simulate(stream, learner, plan(stream, experiment.agenda), curve=experiment.curve)
    return list(events), learner, experiment


@pytest.fixture(scope="module")
def independent() -> tuple[list[Event], Strategy, Experiment]:
    return learned("independent", **WITH_CURVE)


@pytest.mark.parametrize("strategy", ["independent", "experts"])
def test_the_net_that_is_kept_is_for_each_seed_the_best_of_the_grid_on_validation_rows(strategy: str):
    events, learner, experiment = learned(strategy, **WITH_CURVE)
    stream = experiment.stream()
    for task in range(3):
        tried = [e for e in events if isinstance(e, GridPointTried) and e.task_id == task]
        assert [(e.lr, e.weight_decay) for e in tried] == [(0.1, 0.0), (0.1, 0.01), (1e-5, 0.0), (1e-5, 0.01)]
        assert all(e.flops > 0 for e in tried)
        rows = stream[task].validation
        kept = (learner.predict(rows.x, task).argmax(dim=-1) == rows.y).float().mean(dim=-1)
        for seed in range(2):
            assert float(kept[seed]) == pytest.approx(max(e.validation[seed] for e in tried))


def test_a_grid_of_the_scenarios_own_rate_chooses_among_epochs_alone():
    own, _, _ = learned("independent", lrs=[0.05], **{"train.lr": 0.05, "stream.validation": 0.2})
    tried = [e for e in own if isinstance(e, GridPointTried)]
    plain, _, _ = learned("independent", **{"train.lr": 0.05, "stream.validation": 0.2})
    assert len(tried) == len([e for e in own if isinstance(e, TaskLearned)])
    assert not [e for e in plain if isinstance(e, GridPointTried)]


def test_a_grid_leaves_nothing_in_memory_that_a_net_without_one_does_not(independent: Any):
    plain, _, _ = learned("independent")
    bytes_of = [[e.memory for e in events if isinstance(e, TaskLearned)] for events in (independent[0], plain)]
    assert bytes_of[0] == bytes_of[1]


def test_the_learning_curve_is_that_of_the_choice_and_begins_before_the_first_batch(independent: Any):
    points = [e for e in independent[0] if isinstance(e, CurvePoint) and e.step == 0]
    assert [e.batch for e in points] == [0, 1, 2]
    tried = [e for e in independent[0] if isinstance(e, GridPointTried) and e.step == 0]
    best = max(tried, key=lambda e: e.validation[0])
    alone, _, _ = learned("independent", **{**WITH_CURVE, "lrs": [best.lr], "weight_decays": [best.weight_decay]})
    same = [e for e in alone if isinstance(e, CurvePoint) and e.step == 0]
    assert [e.n_correct[0] for e in points] == [e.n_correct[0] for e in same]


@pytest.mark.parametrize("leftover", ["keep", "merge", "drop"])
def test_the_learning_curve_counts_batches_as_training_does(leftover: str):
    asked = {
        "agenda.curve_epochs": 1,
        "train.leftover": leftover,
        "train.batch": 33,
        "train.epochs": 3,
        "stream.validation": 0.2,
    }
    curves = []
    for grid in ({}, {"lrs": [0.05], "weight_decays": [0.0]}):
        events, _, _ = learned("independent", **asked, **{"train.lr": 0.05, **grid})
        curves.append([(e.batch, e.n_correct) for e in events if isinstance(e, CurvePoint) and e.step == 0])
    assert curves[0][:-1] == curves[1][:-1]  # the last is of the best epoch
    assert [batch for batch, _ in curves[0]] == [batch for batch, _ in curves[1]]


def test_rows_that_are_set_aside_are_not_learned_from_and_random_views_go_with_the_others():
    x, y = torch.arange(20.0).reshape(20, 1), torch.arange(20) % 2
    train = Data(x, y, resample=lambda number: x + number)
    found = divided(Experience(step=0, task_id=0, train=train, validation=Data(x[:0], y[:0]), classes=2), 0.2)
    both = torch.cat([found.train.x, found.validation.x]).flatten()
    assert both.sort().values.tolist() == x.flatten().tolist()
    assert found.validation.y.bincount().tolist() == [2, 2]
    assert found.train.resample is not None
    assert torch.equal(found.train.resample(100), found.train.x + 100)


def test_the_only_row_of_a_class_is_both_learned_from_and_chosen_on():
    x, y = torch.arange(11.0).reshape(11, 1), torch.tensor([0] * 5 + [1] * 5 + [2])
    train = Data(x, y)
    found = divided(Experience(step=0, task_id=0, train=train, validation=train.at(y[:0]), classes=3), 0.2)
    assert (found.train.y.bincount().tolist(), found.validation.y.bincount().tolist()) == ([4, 4, 1], [1, 1, 1])


@pytest.mark.parametrize("shape", [(2,), (3, 3), (1, 3, 3), (2, 4)])
def test_rows_without_a_class_are_set_aside_in_a_drawn_order_and_spread_over_all(shape: tuple[int, ...]):
    x = torch.arange(20.0).reshape(20, 1)
    train = Data(x, x.reshape(20, *[1] * len(shape)).expand(20, *shape))
    found = divided(Experience(step=0, task_id=0, train=train, validation=Data(x[:0], train.y[:0]), classes=0), 0.2)
    for part in (found.train, found.validation, train.spread(5)):
        assert torch.equal(part.y.flatten(1)[:, 0], part.x[:, 0])
    assert len(found.validation) == 4 and found.validation.x.flatten().tolist() != [0, 1, 2, 3]
    assert train.spread(5).x.flatten().tolist() == [0, 4, 9, 14, 19]


@pytest.mark.parametrize("kind", ["s_minus", "s_plus", "s_in", "s_out", "s_pl", "s_long"])
@pytest.mark.parametrize("ending", ["", "_local"])
def test_in_ctrl_scenarios_transfer_is_like_with_like(kind: str, ending: str):
    options = Scenario.load(f"ctrl_{kind}{ending}").tables["strategy"]
    names = ("independent", "experts", "mntdp", "picle")
    chosen = [{key: options[name].get(key) for key in Grid.model_fields} for name in names]
    assert all(one == chosen[0] for one in chosen[1:])
    assert chosen[0]["lrs"]
