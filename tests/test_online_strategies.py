"""Strategies for rows that arrive a few at a time: their losses are those of their papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.targets.numbers import Numbers

NEW = torch.tensor([1, 1, 1, 0, 0, 0])
Y = torch.tensor([1, 1, 4, 0, 4, 7])


def built(name: str, **options: Any) -> Any:
    given = {"stream.samples_per_class": 4, "stream.test_samples_per_class": 4, "stream.n": 2, "train.epochs": 1}
    experiment = Experiment.of("permuted_digits", name, (0, 1), **{**given, "stream.setting": "domain", **options})
    return experiment, experiment.build_strategy(experiment.stream())


def one(strategy: Any) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Return the weights of one seed, to be trained, rows and their places among tasks."""
    net = {name: leaf[0].clone().requires_grad_(True) for name, leaf in strategy.net.init([0]).items()}
    x = torch.rand(6, *strategy.net.input_shape, generator=torch.Generator().manual_seed(3))
    return {"net": net}, x, torch.zeros(6, dtype=torch.int64)


def gradient(loss: Tensor, net: dict[str, Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.values()))])


def test_er_ace_tells_new_rows_apart_from_each_other_alone():
    strategy = built("er_ace")[1]
    params, x, t = one(strategy)
    outputs = strategy.net.one(params["net"], x)
    among = F.cross_entropy(outputs[:3][:, [1, 4]], torch.tensor([0, 0, 1]))
    expected = among + F.cross_entropy(outputs[3:], Y[3:])
    found = strategy._loss(params, None, x, Y, t, NEW)
    torch.testing.assert_close(found, expected)
    slope = torch.autograd.grad(found, params["net"]["head.bias"], retain_graph=True)[0]
    remembered = torch.autograd.grad(F.cross_entropy(outputs[3:], Y[3:]), params["net"]["head.bias"])[0]
    absent = [c for c in range(10) if c not in (1, 4)]
    torch.testing.assert_close(slope[absent], remembered[absent])


@pytest.mark.parametrize("apart", [True, False])
def test_agem_takes_the_part_of_a_step_that_does_not_raise_the_loss_of_remembered_rows(apart: bool):
    strategy = built("agem")[1]
    params, x, t = one(strategy)
    x[3:] = x[:3]
    y = torch.cat([Y[:3], Y[:3] + 1 if apart else Y[:3]])  # the same rows, to be answered otherwise
    outputs = strategy.net.one(params["net"], x)
    r = gradient(F.cross_entropy(outputs[3:], y[3:]), params["net"])
    outputs = strategy.net.one(params["net"], x)
    g = gradient(F.cross_entropy(outputs[:3], y[:3]), params["net"])
    assert (g @ r < 0) == apart
    found = gradient(strategy._loss(params, None, x, y, t, NEW), params["net"])
    torch.testing.assert_close(found, g - (g @ r) / (r @ r) * r if apart else g, rtol=1e-4, atol=1e-6)


def test_der_holds_remembered_rows_to_the_outputs_kept_with_them():
    strategy = built("der", alpha=0.3, beta=0.7)[1]
    params, x, t = one(strategy)
    z = torch.rand(6, 10)
    outputs = strategy.net.one(params["net"], x)
    expected = F.cross_entropy(outputs[:3], Y[:3]) + 0.3 * F.mse_loss(outputs[3:], z[3:])
    expected = expected + 0.7 * F.cross_entropy(outputs[3:], Y[3:])
    torch.testing.assert_close(strategy._loss(params, None, x, Y, t, z, NEW), expected)


@pytest.mark.parametrize(("pieces", "lr"), [(0, 1e-3), (8, 1e-3), (8, 1e-30)])
def test_der_keeps_the_outputs_of_rows_as_they_were_when_they_arrived(pieces: int, lr: float):
    experiment, strategy = built("der", samples=500, **{"stream.n": 1, "stream.pieces": pieces, "train.lr": lr})
    stream = experiment.stream()
    for _ in simulate(stream, strategy, plan(stream, experiment.agenda)):
        pass
    memory = strategy.state["memory"]
    assert memory["z"].shape == (2, 40, 10)
    for place in (0, 1):
        now = strategy.of_seed(place).predict(memory["x"][place], 0)[0]
        same = (now - memory["z"][place]).abs().amax(dim=1) < 1e-5
        assert same.all() == (not pieces or lr < 1e-20)
        assert (memory["z"][place].abs().sum(dim=1) > 0).all()  # of all rows


@pytest.mark.parametrize("setting", ["task", "class"])
def test_der_notes_the_same_of_a_seed_alone_as_beside_others(setting: str):
    def noted(seeds: tuple[int, ...]) -> Tensor:
        given = {"stream.pieces": 6, "stream.setting": setting, "stream.samples_per_class": 4, "samples": 30}
        name = "split_digits_class" if setting == "class" else "permuted_digits"
        experiment = Experiment.of(name, "der", seeds, **{**given, "stream.n": 2, "train.epochs": 2})
        stream = experiment.stream()
        strategy = experiment.build_strategy(stream)
        for _ in simulate(stream, strategy, plan(stream, experiment.agenda)):
            pass
        kept: Tensor = strategy.state["memory"]["z"][seeds.index(7)]
        return kept

    torch.testing.assert_close(noted((7,)), noted((3, 7, 5)), rtol=1e-3, atol=1e-3)


def test_er_ace_is_for_classes():
    strategy = built("er_ace")[1]
    with pytest.raises(UsageError, match="er_ace tells classes apart, and a task asks for numbers: use replay"):
        strategy.check_targets([Numbers.of(numbers=1)])
