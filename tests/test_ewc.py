"""Elastic weight consolidation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cl_engine.experiment import Experiment
from cl_engine.strategies.ewc import Ewc
from cl_engine.testing.walking import after_each_task, answers

TINY = Path(__file__).parent / "tiny.toml"


def walked(seeds: tuple[int, ...] = (0, 1), strategy: str = "ewc", **options: Any) -> list[Any]:
    options = {"stream.setting": "domain", "agenda.evaluate_ahead": 0, **options}
    return [
        (dict(learner.state.items()), [answers(stream, learner, task) for task in range(2)])
        for stream, learner in after_each_task(Experiment.of(TINY, strategy, seeds, **options))
    ]


def test_without_strength_it_is_fine_tuning_bit_for_bit():
    for (_, ours), (_, theirs) in zip(walked(strength=0.0), walked(strategy="finetune"), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_stronger_the_nearer_weights_stay_to_those_of_the_task_before():
    moved = []
    for strength in (0.1, 10.0, 1000.0):
        (first, _), (second, _), *_ = walked(strength=strength, fisher="labels")
        gone = [(second["net"][name] - first["net"][name]).norm() for name in first["importance"]]
        moved.append(float(torch.stack(gone).norm()))
    assert moved[0] > moved[1] > moved[2]


@pytest.mark.parametrize("anchor", ["each", "last"])
def test_the_penalty_is_the_sum_of_what_each_task_adds(anchor: str):
    experiment = Experiment.of(TINY, "ewc", (0,), **{"stream.setting": "domain", "anchor": anchor, "decay": 0.5})
    importances, weights = [], []
    for _stream, learner in after_each_task(experiment):
        assert isinstance(learner, Ewc)
        importances.append(learner.state["importance"])
        weights.append(learner.state["net"])
    kept = 0.5 if anchor == "last" else 1.0
    parts = [
        importances[0],
        *({n: b[n] - kept * a[n] for n in a} for a, b in pairwise(importances)),
    ]
    params = {name: leaf + 0.1 for name, leaf in weights[-1].items()}
    quadratic = learner._quadratic(weights[-1])
    one = {name: leaf[0] for name, leaf in params.items()}
    frozen = {
        "importance": {n: v[0] for n, v in quadratic["importance"].items()},
        "pull": {n: v[0] for n, v in quadratic["pull"].items()},
        "constant": quadratic["constant"][0],
    }
    x, y = torch.rand(4, *learner.net.input_shape), torch.zeros(4, dtype=torch.int64)
    found = learner._held_back(one, frozen, x, y) - learner.loss(one, None, x, y)
    if anchor == "each":
        terms = [(f[n] * (params[n] - w[n]).square()).sum() for f, w in zip(parts, weights, strict=True) for n in f]
    else:
        terms = [(f * (params[n] - weights[-1][n]).square()).sum() for n, f in importances[-1].items()]
    assert float(found) == pytest.approx(float(torch.stack(terms).sum()) * learner.strength / 2, rel=1e-3)


@pytest.mark.parametrize(
    "smoothing", [0.0, 0.3]
)  # of the labels in training: the likelihood is of the labels that there are
def test_the_information_is_the_mean_square_of_the_gradients_of_single_rows(smoothing: float):
    asked = {"stream.setting": "domain", "fisher": "labels", "fisher_rows": 10**6, "train.label_smoothing": smoothing}
    experiment = Experiment.of(TINY, "ewc", (0,), **asked)
    for stream, learner in after_each_task(experiment):
        params = {name: leaf[0].clone().requires_grad_() for name, leaf in learner.state["net"].items()}
        data, squares = stream[0].train, []
        for x, y in zip(data.x, data.y, strict=True):
            loss = nn.functional.cross_entropy(learner.net.one(params, x[None], training=False), y[None])
            squares.append(torch.autograd.grad(loss, params["head.bias"])[0].square())
        wanted = torch.stack(squares).mean(dim=0)
        torch.testing.assert_close(learner.state["importance"]["head.bias"][0], wanted, rtol=1e-4, atol=1e-7)
        return
