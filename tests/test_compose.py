"""Compositional Models: blocks, orders, and adaptation that changes nothing but an order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.core.bank import Bank
from cl_engine.core.tree import leaves_with_path
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.modules.events import OrderLearned, OrderTried
from cl_engine.modules.pools import Orders
from cl_engine.modules.reordering import certainty, refined
from cl_engine.nn.net import Net

Tiny = Callable[..., Experiment]
ISOMETRIC: dict[str, Any] = {"net.name": "isometric", "net.width": 8, "net.steps": 3, "net.patch": 4}
ORDER_ONLY: dict[str, Any] = {"common": ["norms", "head"], "spread": 1.0, "joint": 2, **ISOMETRIC}


def walked(experiment: Experiment) -> tuple[list[Event], Any, Any]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    return list(simulate(stream, strategy, plan(stream, experiment.agenda))), strategy, stream


def copied(state: Any) -> dict[Any, torch.Tensor]:
    return {
        path: (leaf.rows if isinstance(leaf, Bank) else leaf).clone()
        for path, leaf in leaves_with_path(state)
        if isinstance(leaf, Bank | torch.Tensor)
    }


def test_blocks_are_trained_by_the_first_tasks_together_and_never_after(tiny: Tiny):
    experiment = tiny("compose", joint=2, **ISOMETRIC, **{"stream.n": 4})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    blocks, answers = [], []
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        if isinstance(event, TaskLearned):
            blocks.append(copied({"blocks": strategy.state["blocks"], "shared": strategy.state["shared"]}))
            answers.append(strategy.predict(stream.test(0).x, 0))
            assert ("data" in strategy.state) == (event.task_id == 0)
    assert any(not torch.equal(blocks[0][path], blocks[1][path]) for path in blocks[0])
    for later in (2, 3):
        assert all(torch.equal(blocks[1][path], blocks[later][path]) for path in blocks[1])
        assert torch.equal(answers[1], answers[later])


def test_joint_tasks_are_learned_from_the_rows_of_all_of_them(tiny: Tiny):
    experiment = tiny("compose", joint=3, **ISOMETRIC, **{"train.epochs": 8, "stream.samples_per_class": 20})
    _, strategy, stream = walked(experiment)
    for task in range(3):
        test = stream.test(task)
        assert ((strategy.predict(test.x, task).argmax(dim=-1) == test.y).float().mean(dim=-1) > 0.3).all()


def test_a_task_with_an_order_alone_costs_steps_times_blocks_numbers(tiny: Tiny):
    events, strategy, _ = walked(tiny("compose", **ORDER_ONLY, **{"stream.n": 4}, blocks=5))
    learned = [event for event in events if isinstance(event, TaskLearned)]
    parts = [{k: v for k, v in event.memory.items() if k != "data"} for event in learned]
    assert {k: parts[3][k] - parts[2][k] for k in parts[3]} == {"shared": 0, "blocks": 0, "orders": 3 * 5 * 4}
    assert not {"heads", "norms"} & set(strategy.state)


def test_a_net_without_modules_of_one_configuration_is_refused_in_a_sentence(tiny: Tiny):
    experiment = tiny("compose", **{"net.hidden": [12, 8]})
    with pytest.raises(UsageError, match="no two modules of one configuration behind its first"):
        experiment.build_strategy(experiment.stream())


def test_the_layer_that_reads_the_inputs_is_in_no_pool_though_it_has_the_size_of_the_others(tiny: Tiny):
    experiment = tiny("compose", **{"net.hidden": [64, 64, 64]})
    net = experiment.build_strategy(experiment.stream()).net
    assert net.shapes["1.weight"] == net.shapes["3.weight"] == (64, 64)
    assert [pool.steps for pool in Orders(net, None).pools] == [("3", "5")]


def test_the_likeliest_block_alone_is_the_same_with_kernels_or_outputs_mixed(tiny: Tiny):
    experiment = tiny("compose", **ISOMETRIC)
    net = experiment.build_strategy(experiment.stream()).net
    orders = Orders(net, 4)
    blocks, order = orders.start([0])
    order = order + torch.randn(order.shape, generator=torch.Generator().manual_seed(0))
    x = net.prepare(experiment.stream()[0].train.x[:7])
    one = {pool: {weight: t[0] for weight, t in own.items()} for pool, own in blocks.items()}
    whole = {name: t[0] for name, t in net.init([0]).items()}

    def answered(mix: Any, hard: float) -> torch.Tensor:
        params, hooks = orders.mixed(one, orders.chances(order[0], 1.0, hard), mix)
        return net.one({**whole, **params}, x, hooks=hooks)

    torch.testing.assert_close(answered("kernels", 1.0), answered("outputs", 1.0))
    assert not torch.allclose(answered("kernels", 0.0), answered("outputs", 0.0), atol=1e-3)
    hardened = net.all({**net.init([0]), **orders.hardened(blocks, order)}, x)[0]
    torch.testing.assert_close(answered("kernels", 1.0), hardened)


def test_the_weight_of_the_entropy_makes_each_step_settle_on_one_block(tiny: Tiny):
    def entropies(weight: float) -> list[float]:
        how = {"entropy": weight, "order_lr": 0.2, **ISOMETRIC, "train.epochs": 6}
        told = [event for event in walked(tiny("compose", **how))[0] if isinstance(event, OrderLearned)]
        assert {event.part for event in told} == {"steps.0", "steps.1", "steps.2"}
        assert all(0 <= block < 3 for event in told for block in event.block)
        return [entropy for event in told for entropy in event.entropy]

    free, pressed = entropies(0.0), entropies(5.0)
    assert sum(pressed) < sum(free)
    assert max(pressed) < 0.2


def test_without_labels_nothing_changes_but_the_new_order_and_labels_are_never_read(tiny: Tiny):
    experiment = tiny("compose", **ORDER_ONLY, **{"stream.unlabelled": [2]})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert (stream.arrival(2).train.y == -1).all()
    before: dict[Any, torch.Tensor] = {}
    tried: list[OrderTried] = []
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        if isinstance(event, TaskLearned) and event.task_id == 1:
            before = copied(strategy.state)
        if isinstance(event, OrderTried):
            tried.append(event)
    after = copied(strategy.state)
    assert len(after[("orders",)][0]) == 3
    after[("orders",)] = after[("orders",)][:, :2]
    assert all(torch.equal(before[path], after[path]) for path in before)
    assert [event.source for event in tried] == [0, 1]
    for event in tried:
        assert all(later >= earlier for earlier, later in zip(event.before, event.after, strict=True))


def test_a_task_without_labels_before_blocks_are_trained_is_refused(tiny: Tiny):
    with pytest.raises(RunFailed, match=r"set strategy\.compose\.joint to 1 at most"):
        walked(tiny("compose", **ISOMETRIC, joint=3, **{"stream.unlabelled": [1]}))


def test_strategies_that_learn_from_labels_are_refused_a_stream_without(tiny: Tiny):
    experiment = tiny("finetune", **{"stream.unlabelled": [1]})
    with pytest.raises(UsageError, match=r"learns from labels, and stream\.unlabelled withholds those of tasks \[1\]"):
        experiment.build_strategy(experiment.stream())
    experiment = tiny("compose", **{"stream.unlabelled": [3]})
    with pytest.raises(UsageError, match=r"stream\.unlabelled: there is no task 3 in a stream of 3 tasks"):
        experiment.build_strategy(experiment.stream())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 3))
def test_going_through_an_order_a_step_at_a_time_never_makes_it_worse(seed: int, sweeps: int):
    net = Net(_chain, (4,))
    orders = Orders(net, 3)
    draw = torch.Generator().manual_seed(seed)
    worth = torch.randn(2, len(orders.places), 3, generator=draw)

    def score(order: torch.Tensor) -> torch.Tensor:
        chosen = torch.nn.functional.one_hot(order.argmax(dim=2), 3)
        return (chosen * worth).sum(dim=(1, 2)) + worth[:, 0, 0] * chosen[:, 0, 1] * chosen[:, 1, 2]

    start = torch.randn(2, len(orders.places), 3, generator=draw)
    found, best = refined(orders, start, score, sweeps)
    assert torch.equal(score(found), best)
    assert (best >= score(start)).all()
    if sweeps:
        for place in range(len(orders.places)):  # one sweep finds the best block of a step that depends on no other
            if place > 1:
                assert torch.equal(found[:, place].argmax(dim=1), worth[:, place].argmax(dim=1))


def test_an_order_of_two_blocks_can_be_any(tiny: Tiny):
    orders = Orders(Net(_chain, (4,)), 2)
    _, start = orders.start([0])
    assert start.argmax(dim=2).unique().tolist() == [0, 1]
    for place in range(len(orders.places)):
        for block in (0, 1):
            assert int(orders.replaced(start, place, block)[0, place].argmax()) == block
    assert torch.equal(orders.opened(start).argmax(dim=2), start.argmax(dim=2))


def test_orders_are_learned_beside_any_optimiser_of_the_net(tiny: Tiny):
    how = {"train.optimizer": "sgd", "train.momentum": 0.9, "train.nesterov": True}
    events, _, _ = walked(tiny("compose", joint=2, **ISOMETRIC, **how))
    assert any(isinstance(event, TaskLearned) for event in events)


def test_certainty_is_greatest_for_sure_answers_spread_over_all_classes():
    sure = 50.0 * torch.eye(4)
    assert certainty(sure) == pytest.approx(torch.tensor(4.0).log())
    assert certainty(sure[:1].expand(4, 4)) == pytest.approx(0, abs=1e-6)
    assert certainty(torch.zeros(4, 4)) == pytest.approx(0, abs=1e-6)


def _chain() -> torch.nn.Module:
    return torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(4)])
