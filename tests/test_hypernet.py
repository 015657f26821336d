"""Nets made from codes by a generator: what holds exactly, what is held by a term of the loss, what is counted and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_engine.core import rng
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import EarlierTaskTested, Event
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.recall.events import CodesDrifted, CodeStarted, FieldAudited, FieldResidual, SkillBytes
from cl_engine.recall.field import Field
from cl_engine.recall.hypernetwork import Generator, GeneratorOptions
from cl_engine.recall.manifest import Manifest
from cl_engine.testing import small
from tests.conftest import TINY

BOTH = pytest.mark.parametrize("strategy", ["hypernet", "hypernet_field"])


def run(strategy: str, seeds: tuple[int, ...] = (0,), **options: Any) -> tuple[Any, Any, list[Event]]:
    """Return the stream, the strategy as it is after a run over tiny tasks, and the events."""
    experiment = Experiment.of(TINY, strategy, seeds, **{"stream.n": 2, "agenda.curve_batches": 0, **options})
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    events = list(simulate(stream, learner, plan(stream, experiment.agenda), curve=experiment.curve))
    return stream, learner, events


def told(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def field_of(weights: int, horizon: int, eta: float, **options: Any) -> Field:
    """Return a field for nets of a linear layer of so many weights and a bias."""
    net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(weights, 1)), (1, 1, weights))
    manifest = Manifest.of(net, net.init([0]))
    generator = Generator(manifest, GeneratorOptions.of(options), torch.device("cpu"), timed=True)
    return Field(generator, horizon, eta)


def test_a_field_at_time_zero_is_the_start_bit_for_bit_after_learning_too():
    _, learner, _ = run("hypernet_field", recall_at=0)
    initial = learner.net.init([0])
    for task in range(2):
        assert all(torch.equal(tensor, initial[name]) for name, tensor in learner.nets.params(task).items())


def test_no_gradient_flows_through_the_steps_that_a_field_is_to_take():
    field = field_of(2, 10, 0.5, code=2, hidden=[4])
    start, times, codes = torch.ones(3), torch.tensor([2.0, 7.0]), torch.tensor([[0.3, -0.4], [0.1, 0.2]])

    def slopes(gradient: Any) -> list[Tensor]:
        phi = {name: tensor[0].requires_grad_() for name, tensor in field.generator.init([0]).items()}
        field.mismatch(phi, start, codes, times, gradient).sum().backward()
        return [tensor.grad for tensor in phi.values() if tensor.grad is not None]

    noted: list[Tensor] = []

    def of_weights(weights: Tensor) -> Tensor:
        noted.append((weights**3).detach())
        return weights**3

    flowing = slopes(of_weights)
    given = iter(noted)
    for one, other in zip(flowing, slopes(lambda weights: next(given)), strict=True):
        assert torch.equal(one, other)


def test_a_field_of_a_quadratic_loss_is_the_closed_form_of_gradient_descent():
    horizon, eta = 10, 0.2
    field = field_of(1, horizon, eta, code=1, hidden=[32, 32])
    curvature, best, start = torch.tensor([[1.0, 0.3], [0.3, 0.5]]), torch.tensor([0.5, -0.5]), torch.tensor([0.0, 0.2])
    phi = {name: tensor[0].requires_grad_() for name, tensor in field.generator.init([0]).items()}
    steps = 1500
    optimizer = torch.optim.Adam(phi.values(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    times, codes = torch.arange(horizon, dtype=torch.float32), torch.zeros(horizon, 1)
    for _ in range(steps):
        optimizer.zero_grad()
        field.mismatch(phi, start, codes, times, lambda weights: (weights - best) @ curvature).mean().backward()
        optimizer.step()
        schedule.step()
    every = torch.arange(horizon + 1)
    found = field.weights(phi, start, torch.zeros(horizon + 1, 1), every.float())
    step = torch.eye(2) - eta * curvature
    exact = torch.stack([best + torch.linalg.matrix_power(step, int(t)) @ (start - best) for t in every])
    assert (found - exact).abs().max() < 1e-3


def test_without_a_past_learning_is_plain_training_of_the_generator():
    stream, learner, _ = run("hypernet", beta=0.0, **{"stream.n": 1, "train.epochs": 3})
    learned, rows = learner.state["generator"], stream[0].train
    fresh = learner.untrained()
    phi = {name: tensor[0].clone().requires_grad_() for name, tensor in fresh.state["generator"].items()}
    code = fresh.nets.code(0)[0].clone().requires_grad_()
    optimizer = torch.optim.Adam([*phi.values(), code], lr=0.01)
    for epoch in range(3):
        for index in torch.randperm(len(rows), generator=rng.tensors(0, "order", 0, 0, epoch)).split(20):
            vector = fresh.state["start"][0] + fresh.nets.generator.change(phi, code.unsqueeze(0))[0]
            outputs = learner.net.one(fresh.nets.of_one(vector, {}), learner.net.prepare(rows.x[index]), True)
            optimizer.zero_grad()
            cross_entropy(outputs, rows.y[index]).backward()
            optimizer.step()
    for name, tensor in phi.items():
        torch.testing.assert_close(learned[name][0], tensor.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(learner.nets.code(0)[0], code.detach(), rtol=1e-4, atol=1e-6)


@BOTH
def test_past_codes_are_held_by_the_regulariser_and_drift_without_it(strategy: str):
    drift = []
    for beta in (1.0, 0.0):
        events = run(strategy, beta=beta, **{"train.epochs": 10})[2]
        drift.append(told(events, CodesDrifted)[-1].distance[0])
    assert drift[0] < 0.7 * drift[1]


@BOTH
def test_a_step_holds_no_more_past_codes_than_are_asked_for_and_never_that_of_the_task_itself(strategy: str):
    stream, learner, _ = run(strategy, rehearse=5)
    for _ in range(40):
        learner.state["codes"].put(len(learner.state["codes"]), torch.zeros(1, 8))
    drawn = learner.nets.rehearsed(stream[1])
    first, other = drawn(0, 0, 3), drawn(0, 1, 3)
    assert len(set(first)) == 5
    assert first == drawn(0, 0, 3)
    assert first != other
    assert all(1.0 not in drawn(0, batch, 100) for batch in range(100))


@BOTH
def test_a_task_met_before_is_answered_midway_from_the_generator_being_fitted(strategy: str):
    options = {"agenda.curve_epochs": 1, "agenda.curve_tasks": 1, "beta": 0.0}
    tested = told(run(strategy, **options)[2], EarlierTaskTested)
    assert [event.task_id for event in tested] == [
        0
    ] * 3  # before the first batch of the second task, and after two epochs


@BOTH
def test_a_code_may_start_from_the_past_one_that_fits_best(strategy: str):
    stream, learner, events = run(strategy, (0, 1), warm=True, **{"stream.n": 3})
    started = told(events, CodeStarted)
    assert [event.task_id for event in started] == [1, 2]
    assert started[0].source == (0.0, 0.0)
    code, _ = learner.nets.first_code(stream[2], {0.0: learner.nets.make})
    assert torch.equal(code, learner.nets.code(2))  # one that comes back goes on from its own


def test_bytes_count_the_generator_twice_for_who_learns_on_and_the_start_where_it_follows_from_no_seed():
    _, learner, events = run("hypernet")
    first, second = told(events, SkillBytes)
    phi = sum(tensor[0].numel() * 4 for tensor in learner.state["generator"].values())
    assert first.recall_only == phi + 8 * 4
    assert first.in_all == first.recall_only  # no φ* is needed before there is a past
    assert second.recall_only == phi + 2 * 8 * 4
    assert second.in_all == second.recall_only + phi
    learner.net.pretrained = learner.net.init([0])
    assert learner.nets.bytes(Event(step=0)).recall_only == second.recall_only + 4 * learner.nets.manifest.size


def test_heads_and_statistics_that_are_not_made_are_each_tasks_own():
    net = {"net.name": f"{small.__name__}:with_batchnorm", "net.hidden": 8}
    _, learner, _ = run("hypernet", heads="outside", **net)
    assert {"head.weight", "head.bias", "1.running_mean"} <= learner.state["beside"].keys()
    assert all(len(bank) == 2 for bank in learner.state["beside"].values())
    _, learner, _ = run("hypernet_field", **net)
    means = learner.state["beside"]["1.running_mean"]
    assert not torch.equal(means[0], means[1])
    assert means[0].any()


def test_large_nets_are_made_in_chunks_each_by_a_code_of_its_own():
    _, learner, _ = run("hypernet", chunk=100)
    generator = learner.nets.generator
    assert generator.chunks == -(-learner.nets.manifest.size // 100)
    assert learner.state["generator"]["generator.chunks"].shape == (1, generator.chunks, 8)


def test_an_audit_compares_with_sgd_from_the_same_start():
    audited = told(run("hypernet_field", audit=[0, 5, 20])[2], FieldAudited)[:3]
    assert [event.time for event in audited] == [0, 5, 20]
    assert audited[0].distance == (0.0,)
    assert audited[0].accuracy == audited[0].accuracy_sgd
    assert audited[2].accuracy_sgd[0] > audited[0].accuracy_sgd[0]


def test_residuals_are_told_of_stretches_of_time():
    found = told(run("hypernet_field", **{"stream.n": 1})[2], FieldResidual)
    assert [event.part for event in found] == ["t 0–4", "t 4–8", "t 8–12", "t 12–16", "t 16–20"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recall_at": 21}, "recall_at is 21; the field ends at horizon, 20"),
        ({"audit": [5, 30]}, r"steps from 0 to horizon, 20, not \[5, 30\]"),
    ],
)
def test_times_beyond_the_horizon_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        run("hypernet_field", **options)


def test_sgd_that_diverges_in_the_audit_ends_the_run_with_both_numbers():
    with pytest.raises(RunFailed, match=r"with eta 1e\+30 and horizon 20"):
        run("hypernet_field", eta=1e30, audit=[20], **{"train.lr": 1e-9})
