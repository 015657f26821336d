"""Fits of several groups of rows, each with a loss of its own: joint training and rehearsal over tasks of different kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.augmentation import Augmentation
from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.runs.scenario import Scenario
from cl_engine.strategies.replay import Replay
from cl_engine.testing.walking import after_each_task
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob, RowsBeside, batch_ends
from cl_engine.training.fit_progress import FitRecord
from cl_engine.training.optimizers import Train
from tests.test_fit import job_of, net_of, run

DRAW = torch.Generator().manual_seed(7)
NUMBERS = torch.randn(20, 1, 6, 6, generator=DRAW), torch.randn(20, generator=DRAW)
FEW = torch.randn(2, 1, 6, 6, generator=DRAW), torch.randn(2, generator=DRAW)
MEMORY = torch.randn(3, 5, 1, 6, 6, generator=DRAW), torch.randn(3, 5, generator=DRAW)
together = pytest.mark.parametrize("together", [True, False], ids=["as one", "in turn"])


def squared(net: Net) -> Callable[..., Tensor]:
    return lambda params, frozen, x, y: (net.one(params, x)[:, 0] - y).square().mean()


def job(net: Net, seeds: list[int] | None = None, **changes: Any) -> FitJob:
    """Return a fit of 50 rows with classes, 20 and 2 beside them with numbers, and 4 rehearsed ones a batch."""
    own, beside = seeds or [0, 1, 2], squared(net)
    memory = tuple(part[own] for part in MEMORY)
    groups = [RowsBeside(NUMBERS, beside), RowsBeside(FEW, beside), RowsBeside(memory, beside, rehearsed=4)]
    return job_of(net, seeds, **{"beside": groups, **changes})


def by_hand(job: FitJob, net: Net, place: int) -> tuple[dict[str, Tensor], list[float]]:
    """Train one seed in a plain loop; return the weights, and the mean loss of the rows of each epoch."""
    params = {name: tensor[place].clone().requires_grad_() for name, tensor in job.params.items()}
    optimizer = torch.optim.SGD(params.values(), lr=job.train.lr, momentum=job.train.momentum)
    seed, means = job.seeds[place], []
    memory = [part[place] for part in job.beside[2].rows]

    def drawn(purpose: str, epoch: int) -> torch.Generator:
        return rng.tensors(seed, purpose, 0, 0, epoch)

    ends = batch_ends([50, 20, 2], job.train)
    for epoch in range(job.train.epochs):
        orders = [
            torch.randperm(count, generator=drawn(purpose, epoch))
            for count, purpose in ((50, "order"), (20, "beside 1"), (2, "beside 2"))
        ]
        rehearsed = torch.randint(5, (5, 4), generator=drawn("beside 3", epoch))
        total = 0.0
        for batch in range(5):
            picked = [order[at[batch - 1] if batch else 0 : at[batch]] for order, at in zip(orders, ends, strict=True)]
            losses = F.cross_entropy(net.one(params, job.rows[0][picked[0]]), job.rows[1][picked[0]], reduction="sum")
            numbers = [(NUMBERS, picked[1]), (FEW, picked[2]), (memory, rehearsed[batch])]
            for (x, y), index in numbers:
                losses = losses + (net.one(params, x[index])[:, 0] - y[index]).square().sum()
            count = sum(map(len, picked))
            optimizer.zero_grad()
            loss = losses / (count + 4)
            loss.backward()
            optimizer.step()
            total += loss.item() * count
        means.append(total / 72)
    return {name: tensor.detach() for name, tensor in params.items()}, means


def ended(events: list[Any]) -> list[EpochEnded]:
    return [event for event in events if isinstance(event, EpochEnded)]


@together
def test_every_seed_ends_where_a_plain_loop_over_all_groups_ends_and_tells_the_mean_loss_of_their_rows(together: bool):
    net = net_of()
    made = job(net, side_by_side=together)
    trained, events = run(made)
    for place in range(3):
        params, means = by_hand(made, net, place)
        for name, tensor in params.items():
            torch.testing.assert_close(trained[name][place], tensor, rtol=1e-4, atol=1e-5)
        assert [event.loss[place] for event in ended(events)] == pytest.approx(means, rel=1e-4)


@together
def test_rows_without_a_loss_are_handed_to_the_fits_own_and_leave_its_batches_as_they_are(together: bool):
    net, seen = net_of(), set()

    def loss(params: Any, frozen: Any, x: Tensor, y: Tensor, more_x: Tensor, more_y: Tensor) -> Tensor:
        seen.add((len(more_x), tuple(more_y.shape)))
        return F.cross_entropy(net.one(params, x), y) + 0 * more_y.sum()

    handed = [RowsBeside(MEMORY, rehearsed=4)]
    trained = run(job_of(net, [0, 1, 2], loss=loss, beside=handed, side_by_side=together))[0]
    plain = run(job_of(net, [0, 1, 2], side_by_side=together))[0]
    assert all(torch.equal(trained[name], plain[name]) for name in plain)
    assert seen == {(4, (4,))}


def test_a_seed_of_several_groups_is_the_same_alone_as_beside_others():
    net = net_of()
    among, alone = (run(job(net, seeds, side_by_side=False))[0] for seeds in ([0, 1, 2], [1]))
    assert all(torch.equal(among[name][1], alone[name][0]) for name in among)


@together
def test_a_fit_of_several_groups_is_resumed_from_the_end_of_an_epoch(together: bool):
    net = net_of()
    whole = run(job(net, side_by_side=together))[0]
    record = FitRecord()
    loop = fit(job(net, side_by_side=together, record=record))
    while not isinstance(next(loop), EpochEnded):
        pass
    next(loop)  # it is noted
    loop.close()
    assert record.epoch == 0
    resumed, events = run(job(net, side_by_side=together, record=record))
    assert [event.epoch for event in ended(events)] == [0, 1, 2]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_operations_are_those_of_the_rows_of_all_groups():
    net = net_of()

    def flops(**changes: Any) -> float:
        found: float = ended(run(job(net, [0], **changes))[1])[0].flops
        return found

    own, rows = flops(beside=()), flops(beside=[RowsBeside(NUMBERS, squared(net))])
    assert rows == pytest.approx(own * 70 / 50, rel=1e-3)
    memory = tuple(part[:1] for part in MEMORY)
    rehearsed = flops(beside=[RowsBeside(memory, squared(net), rehearsed=16)])
    assert rehearsed == pytest.approx(own * 2, rel=1e-3)  # of the first step, whose batch is full


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any),
    batch=st.integers(1, 20),
    leftover=st.sampled_from(["keep", "drop", "merge"]),
)
def test_groups_are_spread_evenly_over_the_batches_of_all_rows_together(sizes: list[int], batch: int, leftover: Any):
    train, every = Train(batch=batch, leftover=leftover), sum(sizes)
    ends = batch_ends(sizes, train)
    for number in range(train.batches(every)):
        seen = train.places(number, every).stop
        assert sum(own[number] for own in ends) == seen
        for size, own in zip(sizes, ends, strict=True):
            assert abs(own[number] - size * seen / every) <= len(sizes) / 2 + 0.5
    for own in ends:
        assert own == sorted(own)


# Images shown at random.


@together
def test_images_of_every_group_are_moved(together: bool, monkeypatch: pytest.MonkeyPatch):
    net, moved = net_of(), []
    applied = Augmentation.applied

    def noted(self: Augmentation, x: Tensor, drawn: Tensor, pad_value: Tensor) -> Tensor:
        assert len(x) == len(drawn)
        moved.append(len(x))
        return applied(self, x, drawn, pad_value)

    monkeypatch.setattr(Augmentation, "applied", noted)
    train = Train(epochs=1, batch=16, lr=0.1, crop=1, flip=0.5)
    run(job(net, train=train, side_by_side=together))
    assert sum(moved) == 3 * (50 + 20 + 2 + 5 * 4)


def test_images_of_a_group_are_moved_the_same_alone_as_beside_others():
    net, train = net_of(), Train(epochs=1, batch=16, lr=0.1, crop=1, flip=0.5)
    among, alone = (run(job(net, seeds, train=train, side_by_side=False))[0] for seeds in ([0, 1, 2], [1]))
    assert all(torch.equal(among[name][1], alone[name][0]) for name in among)


# Strategies.


def asked(strategy: str, *views: str, **overrides: Any) -> Experiment:
    """Return an experiment of views of digits, which need no files, on a small net."""
    tables = {
        "stream": {"name": "views", "source": "digits", "views": list(views), "labelled": 21, "test_rows": 10},
        "net": {"name": "mlp", "hidden": [8]},
        "train": {"epochs": 2, "batch": 10, "optimizer": "sgd", "lr": 0.05},
        "agenda": {"evaluate_ahead": 0},
    }
    return Experiment.of(Scenario.of("asked", tables), strategy, **overrides)


def test_joint_training_on_two_kinds_of_tasks_is_a_plain_loop_over_both():
    *_, (stream, strategy) = after_each_task(asked("joint", "digit", "ink?asked=number"))
    net, rows, targets = strategy.net, [stream[k].train for k in (0, 1)], [stream.target(k) for k in (0, 1)]
    body = {name: tensor[0].clone() for name, tensor in net.init([0]).items()}
    heads = [{name: body[name].clone().requires_grad_() for name in ("head.weight", "head.bias")} for _ in rows]
    body = {name: tensor.requires_grad_() for name, tensor in body.items() if name not in heads[0]}
    optimizer = torch.optim.SGD([*body.values(), *heads[0].values(), *heads[1].values()], lr=0.05)
    ends = batch_ends([21, 21], strategy.train)
    for epoch in range(2):
        own, other = (
            torch.randperm(21, generator=rng.tensors(0, purpose, 1, 0, epoch)) for purpose in ("order", "beside 1")
        )
        for batch in range(5):
            index = [
                order[at[batch - 1] if batch else 0 : at[batch]]
                for order, at in zip((other, own), ends[::-1], strict=True)
            ]
            losses = [
                targets[k].losses(net.one({**body, **heads[k]}, net.prepare(rows[k].x[index[k]])), rows[k].y[index[k]])
                for k in (0, 1)
            ]
            optimizer.zero_grad()
            torch.cat(losses).mean().backward()
            optimizer.step()
    for name, tensor in body.items():
        torch.testing.assert_close(strategy.state["net"][name][0], tensor.detach(), rtol=1e-4, atol=1e-5)
    for k, head in enumerate(heads):
        kept = strategy.state["heads"][k][0]
        torch.testing.assert_close(kept[:, :-1], head["head.weight"].detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept[:, -1], head["head.bias"].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("selection", ["reservoir", "balanced"])
@pytest.mark.parametrize("samples", [1, 2, 12])
def test_a_memory_is_divided_evenly_among_kinds_of_tasks_and_never_holds_more_than_it_may(selection: str, samples: int):
    views = ("digit", "ink?asked=number", "flip")
    options = {"samples": samples, "selection": selection, "train.epochs": 1}
    experiment = asked("replay", *views, seeds=(0, 1), **options)
    for seen, (stream, strategy) in enumerate(after_each_task(experiment), start=1):
        assert isinstance(strategy, Replay)
        kinds = len({stream.target(task).key for task in range(seen)})
        held = [m["t"].shape[1] for name, m in strategy.state.items() if name.startswith("memory") and "t" in m]
        assert sum(held) <= samples
        assert samples < kinds or held == [samples // kinds] * kinds
    if samples == 12:
        digits = strategy.state["memory"]
        assert not torch.equal(digits["x"][0], digits["x"][1])  # each seed keeps its own
        if selection == "balanced":
            assert all(len(own.unique()) == 4 for own in digits["y"])  # a class each


def test_a_batch_that_leaves_one_row_of_a_group_is_refused_beforehand_where_the_net_normalises_batches():
    net = {"net.norm": "batch", "train.batch": 6, "train.lr": 0.01}
    experiment = asked("joint", "digit", "ink?asked=number", **net, **{"stream.labelled": [12, 4]})
    with pytest.raises(UsageError, match=r"of the 12 \+ 4 rows at step 1 \(task 1\) batches of 6 leave one over"):
        experiment.build_strategy(experiment.stream())
    whole = asked("joint", "digit", "ink?asked=number", **net, **{"stream.labelled": [12, 12]})
    whole.build_strategy(whole.stream())


def test_a_look_ahead_asks_with_labels_of_the_task_itself():
    numbers = asked("finetune", "ink?asked=number", **{"net.norm": "batch", "stream.labelled": 11})
    with pytest.raises(UsageError, match="of the 11 rows at step 0"):
        numbers.build_strategy(numbers.stream())
