"""What nets promise for a task, and the strategy that starts from the one that promises most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.modules.transferability import h_score, leep, linear_probe, nearest_neighbours, transferability_score
from cl_engine.strategies.experts import GENERALIST, ExpertChosen, ExpertScored

Tiny = Callable[..., Experiment]


def blobs(apart: float, rows: int = 60, width: int = 5, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return classes of points around centres that lie ``apart``."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % classes
    centres = torch.randn(classes, width, generator=draw)
    return centres[labels] * apart + torch.randn(rows, width, generator=draw), labels


@pytest.mark.parametrize("apart", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_vote_as_in_scikit_learn_without_the_row_itself(apart: float, metric: str):
    x, y = blobs(apart)
    known = KNeighborsClassifier(1, metric=metric)
    expected = balanced_accuracy_score(y, cross_val_predict(known, x.numpy(), y.numpy(), cv=LeaveOneOut()))
    assert nearest_neighbours(x, y, cosine=metric == "cosine") == pytest.approx(expected)


def test_a_row_is_never_its_own_neighbour():
    x = torch.eye(4)
    assert nearest_neighbours(x, torch.arange(4)) == 0.0
    assert nearest_neighbours(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)) == 0.0


def test_the_linear_probe_leaves_each_row_out_in_closed_form():
    x, y = blobs(1.0)
    scaled = ((x - x.mean(dim=0)) / x.std(dim=0)).double().numpy()
    scaled = np.concatenate([scaled, np.ones((len(x), 1))], axis=1)
    targets = 2.0 * np.eye(3)[y.numpy()] - 1
    said = cross_val_predict(Ridge(0.01 * len(x), fit_intercept=False), scaled, targets, cv=LeaveOneOut())
    assert linear_probe(x, y) == pytest.approx(balanced_accuracy_score(y, said.argmax(axis=1)))


def test_leep_of_a_head_that_knows_the_classes_is_zero_and_of_one_that_does_not_the_entropy():
    y = torch.tensor([0, 1, 0, 1])
    assert leep(torch.tensor([[50.0, 0], [0, 50.0], [50.0, 0], [0, 50.0]]), y) == pytest.approx(0, abs=1e-6)
    assert leep(torch.zeros(4, 2), y) == pytest.approx(np.log(0.5))


def test_the_h_score_is_that_of_its_definition():
    x, y = blobs(1.0, rows=300)
    centred = x.double().numpy() - x.double().numpy().mean(axis=0)
    means = np.stack([centred[y.numpy() == k].mean(axis=0) for k in range(3)])[y.numpy()]
    expected = np.trace(np.linalg.inv(np.cov(centred.T, bias=True)) @ np.cov(means.T, bias=True))
    assert h_score(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("proxy", ["knn", "linear", "leep", "h_score"])
def test_every_proxy_prefers_features_in_which_classes_stand_apart(proxy: Any):
    scores = []
    for apart in (0.0, 1.0, 4.0):
        x, y = blobs(apart, rows=90)
        scores.append(transferability_score(proxy, x, x[:, :3], y))
    assert scores == sorted(scores)
    assert scores[0] < scores[2]


def events_of(experiment: Experiment) -> tuple[list[Event], Any]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    return list(simulate(stream, strategy, plan(stream, experiment.agenda))), strategy


@pytest.mark.parametrize("proxy", ["knn", "linear", "leep", "h_score"])
def test_every_expert_is_scored_and_the_best_is_chosen_seed_by_seed(tiny: Tiny, proxy: str):
    events, _ = events_of(tiny("experts", proxy=proxy))
    for chosen in (event for event in events if isinstance(event, ExpertChosen)):
        scored = [e for e in events if isinstance(e, ExpertScored) and e.step == chosen.step]
        assert [e.expert for e in scored] == [GENERALIST, *range(chosen.task_id)]
        for seed, expert in enumerate(chosen.expert):
            assert max(e.score[seed] for e in scored) == next(e.score[seed] for e in scored if e.expert == expert)


def test_the_expert_of_a_task_promises_most_for_that_task(tiny: Tiny):
    options = {"stream.samples_per_class": 40, "train.epochs": 15, "net.hidden": [32], "stream.n": 2}
    strategy = events_of(tiny("experts", (0, 1, 2), **options))[1]
    first = tiny("experts", (0, 1, 2), **options).stream()[0]
    found = [[strategy._promises(expert, first)[s] for expert in (GENERALIST, 0, 1)] for s in range(3)]
    assert [int(np.argmax(scores)) for scores in found] == [1, 1, 1]


def test_controls_choose_otherwise(tiny: Tiny):
    generalist = [e for e in events_of(tiny("experts", choose="generalist"))[0] if isinstance(e, ExpertChosen)]
    assert {expert for event in generalist for expert in event.expert} == {GENERALIST}
    limited = [e for e in events_of(tiny("experts", scanned=1))[0] if isinstance(e, ExpertScored)]
    assert [e.expert for e in limited] == [GENERALIST, GENERALIST, 0, GENERALIST, 1]


def test_adapters_change_nothing_at_first_and_cost_what_they_must(tiny: Tiny):
    experiment = tiny("experts", form="adapter", bottleneck=3, **{"net.hidden": [7, 5]})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    x = stream.test(0).x
    assert torch.equal(strategy.predict(x, 0), strategy.net.all(strategy.net.init([0, 1]), x))
    body = {name: tensor.clone() for name, tensor in strategy.state["generalist"].items()}
    learned = [e for e in simulate(stream, strategy, plan(stream, experiment.agenda)) if isinstance(e, TaskLearned)]
    assert all(torch.equal(body[name], tensor) for name, tensor in strategy.state["generalist"].items())
    adapters, head = sum(2 * c * 3 + c + 3 for c in (7, 5)), 10 * 5 + 10
    assert learned[1].memory["experts"] - learned[0].memory["experts"] == 4 * (adapters + head)


def test_adapters_fit_convolutions_too(tiny: Tiny):
    options = {"form": "adapter", "net.name": "small_cnn", "net.width": 4, "net.layers": 2}
    events, strategy = events_of(tiny("experts", **options))
    assert set(strategy._adapters.channels) == {"norm0", "norm1"}
    assert any(isinstance(event, ExpertChosen) for event in events)
