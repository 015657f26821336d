"""The training loop: one loss for one seed, run for all of them."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cl_engine.checkpoints import file as checkpoint
from cl_engine.core.tree import Tree
from cl_engine.data.augmentation import Augmentation
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import EpochEnded, Event
from cl_engine.nn.net import Net
from cl_engine.nn.task_heads import mixed_logits
from cl_engine.runs import plugins
from cl_engine.training.early_stopping import EarlyStopping, Plateau
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import Curve, FitJob, FitOptions, TrainingProbe
from cl_engine.training.fit_observer import FitEnded, ObservedFit
from cl_engine.training.optimizer_steps import optimizers_for
from cl_engine.training.optimizers import Train, optimizer_class
from cl_engine.training.rates import Rates, mean_share


def net_of(name: str = "mlp", **options: Any) -> Net:
    options = options or {"hidden": [16]}
    return Net(plugins.net_builder(name, options, (1, 6, 6), 3), (1, 6, 6))


def job_of(net: Net, seeds: list[int] | None = None, **changes: Any) -> FitJob:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 1, 6, 6, generator=draw)
    y = (x.flatten(1)[:, :3]).argmax(dim=1)
    seeds = seeds or [0, 1, 2]
    given: dict[str, Any] = {
        "net": net,
        "params": net.init(seeds),
        "loss": lambda params, frozen, x, y: F.cross_entropy(net.one(params, x), y),
        "rows": (x, y),
        "train": Train(epochs=3, batch=16, lr=0.1, momentum=0.9),
        "seeds": seeds,
        "step": 0,
        "task_id": 0,
        "logits": lambda params, frozen, x: net.one(params, x),
    }
    return FitJob(**{**given, **changes})


def run(job: FitJob) -> tuple[Tree, list[Event]]:
    events, loop = [], fit(job)
    while True:
        try:
            events.append(next(loop))
        except StopIteration as end:
            return end.value, events


def by_hand(job: FitJob, net: Net, seed_index: int, sizes: list[int]) -> dict[str, torch.Tensor]:
    """Train one seed in a plain loop, on the batches that the engine derives, of these sizes."""
    from cl_engine.core import rng

    params = {name: tensor[seed_index].clone().requires_grad_() for name, tensor in job.params.items()}
    optimizer = torch.optim.SGD(params.values(), lr=job.train.lr, momentum=job.train.momentum)
    for epoch in range(job.train.epochs):
        order = torch.randperm(50, generator=rng.tensors(job.seeds[seed_index], "order", 0, 0, epoch))
        for index in order[: sum(sizes)].split(sizes):
            optimizer.zero_grad()
            F.cross_entropy(net.one(params, job.rows[0][index]), job.rows[1][index]).backward()
            optimizer.step()
    return params


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("leftover", "sizes"), [("keep", [16, 16, 16, 2]), ("drop", [16, 16, 16]), ("merge", [16, 16, 18])]
)
def test_every_seed_ends_where_a_plain_loop_on_the_same_batches_ends(together: bool, leftover: str, sizes: list[int]):
    net = net_of()
    how = Train(epochs=3, batch=16, lr=0.1, momentum=0.9, leftover=leftover)  # type: ignore[arg-type]
    job = job_of(net, side_by_side=together, train=how)
    trained, _ = run(job)
    for s in range(3):
        for name, tensor in by_hand(job, net, s, sizes).items():
            torch.testing.assert_close(trained[name][s], tensor.detach(), rtol=1e-4, atol=1e-5)


@given(rows=st.integers(1, 60), batch=st.integers(1, 20), leftover=st.sampled_from(["keep", "drop", "merge"]))
def test_an_epoch_learns_each_row_once_but_for_those_left_over_that_are_dropped(rows: int, batch: int, leftover: Any):
    how = Train(batch=batch, leftover=leftover)
    learned = [k for number in range(how.batches(rows)) for k in range(rows)[how.places(number, rows)]]
    assert learned == list(range(how.learned(rows)))
    assert how.learned(rows) == (rows - rows % batch if leftover == "drop" and rows >= batch else rows)
    sizes = [len(range(rows)[how.places(number, rows)]) for number in range(how.batches(rows))]
    assert set(sizes[:-1]) <= {batch}
    assert leftover == "keep" or rows < batch or sizes[-1] >= batch


@pytest.mark.parametrize("together", [True, False])
def test_the_loss_and_the_operations_of_an_epoch_are_those_of_the_rows_it_learned(together: bool):
    def of(leftover: Any) -> EpochEnded:
        how = Train(epochs=1, batch=16, lr=1e-9, leftover=leftover)
        job = job_of(net_of(), loss=lambda params, frozen, x, y: params["head.bias"].sum() * 0 + 1, train=how)
        return next(e for e in run(dataclasses.replace(job, side_by_side=together))[1] if isinstance(e, EpochEnded))

    assert of("keep").loss == of("drop").loss == of("merge").loss == (1.0, 1.0, 1.0)
    counted = [
        next(
            e.flops for e in run(job_of(net_of(), train=Train(batch=16, leftover=how)))[1] if isinstance(e, EpochEnded)
        )
        for how in ("keep", "drop", "merge")  # type: ignore[arg-type]
    ]
    assert counted[0] == counted[2] == pytest.approx(counted[1] * 50 / 48)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_side_by_side_and_in_turn_agree_within_rounding(optimizer: str):
    net = net_of()
    train = Train(epochs=2, batch=16, lr=0.01, optimizer=optimizer, weight_decay=1e-3, milestones=[1])
    together, events = run(job_of(net, train=train, side_by_side=True))
    in_turn, others = run(job_of(net, train=train, side_by_side=False))
    for name in together:
        torch.testing.assert_close(together[name], in_turn[name], rtol=1e-4, atol=1e-5)
    losses = [[e.loss for e in log if isinstance(e, EpochEnded)] for log in (events, others)]
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("milestones", "rates"), [([], [0.4, 0.3, 0.1, 0.0]), ([2], [0.4, 0.3, 0.01, 0.0])])
def test_a_cosine_takes_the_rate_from_lr_to_nothing_over_the_epochs(milestones: list[int], rates: list[float]):
    train = Train(epochs=3, lr=0.4, schedule="cosine", milestones=milestones)
    [optimizer], trains = optimizers_for({("w",): torch.zeros(1, requires_grad=True)}, train, {})
    schedule = Rates([optimizer], trains, epochs=3, batches=1)
    found = []
    for _ in range(4):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.end_epoch()
    assert found == pytest.approx(rates)  # ½ (1 + cos(π k / 3)) · lr


def test_in_turn_a_seed_is_bit_identical_to_itself_alone():
    net = net_of()
    among, _ = run(job_of(net, [4, 7, 9], side_by_side=False))
    alone, _ = run(job_of(net, [7]))
    for name in among:
        assert torch.equal(among[name][1], alone[name][0])


def test_the_given_parameters_are_not_changed():
    net = net_of()
    job = job_of(net)
    before = {name: tensor.clone() for name, tensor in job.params.items()}
    trained, _ = run(job)
    assert all(torch.equal(job.params[name], before[name]) for name in before)
    assert not any(torch.equal(trained[name], before[name]) for name in before)


def test_training_lowers_the_loss():
    losses = [event.loss for event in run(job_of(net_of()))[1] if isinstance(event, EpochEnded)]
    assert all(last < first for first, last in zip(losses[0], losses[-1], strict=True))


def test_dropout_is_random_by_seed_and_batch_and_the_same_in_every_run():
    net = net_of("mlp", hidden=[32], dropout=0.5)
    one, other = (run(job_of(net, [3]))[0] for _ in range(2))
    plain = run(job_of(net_of("mlp", hidden=[32]), [3]))[0]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(torch.equal(tensor, plain[ours]) for tensor, ours in zip(one.values(), plain, strict=True))


def test_parts_of_the_parameters_can_have_training_options_of_their_own():
    net = net_of()
    params = {"body": net.init([0, 1, 2]), "still": {"scale": torch.ones(3, 1)}}
    loss = lambda p, frozen, x, y: F.cross_entropy(p["still"]["scale"] * net.one(p["body"], x), y)  # noqa: E731
    still = {"still": Train(lr=1e-12)}
    trained, _ = run(job_of(net, params=params, loss=loss, logits=None, overrides=still))
    torch.testing.assert_close(trained["still"]["scale"], torch.ones(3, 1))
    assert not torch.equal(trained["body"]["head.weight"], params["body"]["head.weight"])


@pytest.mark.parametrize("together", [True, False])
def test_rehearsed_rows_join_every_batch_each_seed_its_own(together: bool):
    net = net_of()
    sizes: list[int] = []

    def loss(params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return F.cross_entropy(net.one(params, x), y)

    memory = (
        torch.randn(3, 5, 1, 6, 6, generator=torch.Generator().manual_seed(1)),
        torch.zeros(3, 5, dtype=torch.int64),
    )
    trained, _ = run(job_of(net, loss=loss, rehearsal=memory, rehearsal_batch=8, side_by_side=together))
    assert set(sizes) == {16 + 8, 2 + 8}
    share = net.all(trained, memory[0].flatten(0, 1)).argmax(dim=-1).eq(0).float().mean()
    assert share > 0.9


@pytest.mark.parametrize("together", [True, False])
def test_the_middle_of_learning_can_be_tested_after_each_early_batch_and_each_epoch(together: bool):
    net = net_of()
    job = job_of(net, curve=Curve(batches=2, epochs=2), side_by_side=together)
    points = [(event.batch, event.predict(job.rows[0])) for event in fit(job) if isinstance(event, TrainingProbe)]
    assert [batch for batch, _ in points] == [0, 1, 2, 8]
    torch.testing.assert_close(points[0][1], net.all(job.params, job.rows[0]).clone(), rtol=1e-4, atol=1e-5)
    assert not torch.equal(points[0][1], points[1][1])


def test_a_loss_that_is_not_finite_ends_the_run_with_seed_step_and_epoch():
    net = net_of()
    explode: Callable[..., torch.Tensor] = lambda p, f, x, y: net.one(p, x).sum() * float("inf")  # noqa: E731
    with pytest.raises(RunFailed, match=r"loss of seed 4 is (nan|inf) at step 0 \(task 0\), epoch 0: lower train.lr"):
        run(job_of(net, [4], loss=explode))


@pytest.mark.parametrize("together", [True, False])
def test_a_frozen_tensor_that_is_changed_ends_the_run(together: bool):
    net = net_of()
    frozen = {"kept": torch.zeros(3, 2)}

    def meddling(params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        assert frozen is not None
        frozen["kept"].add_(1)
        return F.cross_entropy(net.one(params, x), y)

    with pytest.raises(RunFailed, match="changed frozen tensors"):
        run(job_of(net, loss=meddling, frozen=frozen, logits=None, side_by_side=together))


def test_an_optimiser_is_any_of_torch_and_others_are_refused_by_name():
    assert optimizer_class("adamw") is torch.optim.AdamW
    with pytest.raises(UsageError, match=r"no optimiser 'adamx' in torch.optim; there are: .*adamw"):
        optimizer_class("adamx")
    with pytest.raises(UsageError, match="'muon' trains matrices alone, and nets have biases; there are: "):
        optimizer_class("muon")
    with pytest.raises(UsageError, match="the optimiser 'adam' has none"):
        run(job_of(net_of(), train=Train(optimizer="adam", momentum=0.9)))


@pytest.mark.parametrize(
    "name", [name for name in vars(torch.optim) if name in ("SGD", "Adam", "Adagrad", "RMSprop", "NAdam")]
)
def test_a_weight_whose_first_gradient_comes_late_is_trained_as_by_steps_that_are_not_fused(name: str):
    def trained(fused: bool) -> list[torch.Tensor]:
        weights = {("a",): torch.ones(3, requires_grad=True), ("b",): torch.ones(2, requires_grad=True)}
        momentum = 0.9 if name in ("SGD", "RMSprop") else 0.0
        train = Train(optimizer=name.lower(), lr=0.1, momentum=momentum)
        (optimizer,) = optimizers_for(weights, train, {})[0]
        if not fused:
            optimizer = getattr(torch.optim, name)(
                weights.values(), lr=0.1, foreach=False, **{"momentum": 0.9} if momentum else {}
            )
        for step in range(4):
            sum((weight**2).sum() for path, weight in weights.items() if path == ("a",) or step > 1).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return [weight.detach() for weight in weights.values()]

    torch.testing.assert_close(trained(True), trained(False))


@pytest.mark.parametrize("together", [True, False])
def test_heads_of_several_tasks_get_the_same_gradient_every_time_with_several_threads(together: bool):
    net = net_of("mlp", hidden=[64])
    t = torch.randint(10, (800,), generator=torch.Generator().manual_seed(2))
    x, y = (rows.repeat(16, *[1] * (rows.ndim - 1)) for rows in job_of(net).rows)  # enough for torch to divide the work
    train = Train(epochs=4, batch=800)
    heads = torch.randn(3, 10, 3, 65, generator=torch.Generator().manual_seed(3))

    def loss(p: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(mixed_logits(net, p["net"], p["heads"], x, t), y)

    params = {"net": net.init([0, 1, 2]), "heads": heads}
    job = job_of(net, params=params, loss=loss, rows=(x, y, t), train=train, side_by_side=together)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ends = {run(job)[0]["heads"].numpy().tobytes() for _ in range(8)}
    finally:
        torch.set_num_threads(threads)
    assert len(ends) == 1


@pytest.mark.parametrize("together", [True, False])
def test_the_weights_of_the_pass_that_was_best_on_validation_rows_are_kept_seed_by_seed(together: bool):
    net = net_of()
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(30, 1, 6, 6, generator=draw)
    validation = (x, x.flatten(1)[:, :3].argmax(dim=1))
    train = Train(epochs=6, batch=16, lr=0.4, momentum=0.9)
    options: dict[str, Any] = {"side_by_side": together, "train": train}
    passes = [
        run(job_of(net, **{**options, "train": train.model_copy(update={"epochs": epochs})}))[0]
        for epochs in range(1, 7)
    ]
    accuracy = torch.stack([(net.all(p, x).argmax(-1) == validation[1]).float().mean(-1) for p in passes])
    best = accuracy.argmax(dim=0)  # the first of equals
    assert len(best.unique()) > 1, "seeds that agree show nothing"
    kept, _ = run(job_of(net, validation=validation, **options))
    for seed, epoch in enumerate(best.tolist()):
        for name, tensor in kept.items():
            assert torch.equal(tensor[seed], passes[epoch][name][seed])


@pytest.mark.parametrize("together", [True, False])
def test_a_fit_ends_when_no_seed_gets_better_for_longer_than_its_patience(together: bool):
    net = net_of()
    hopeless = (torch.zeros(4, 1, 6, 6), torch.tensor([0, 1, 2, 0]))
    train = Train(epochs=9, batch=16, lr=1e-9)
    job = job_of(net, side_by_side=together, train=train, validation=hopeless, patience=2)
    _, events = run(job)
    assert sum(isinstance(event, EpochEnded) for event in events) == 4


def test_the_rate_is_divided_after_epochs_without_a_better_validation_loss_until_it_is_too_small():
    net = net_of()
    hopeless = (torch.zeros(4, 1, 6, 6), torch.tensor([0, 1, 2, 0]))
    train, rule = Train(epochs=20, batch=16, lr=1e-9), Plateau(patience=2, factor=3.0, least=1e-10)
    _, events = run(job_of(net, train=train, validation=hopeless, judge="loss", plateau=rule))
    assert sum(isinstance(event, EpochEnded) for event in events) == 1 + 3 * 2  # 1e-9 / 27 is too small


def test_a_fit_whose_rate_follows_the_validation_rows_is_resumed_where_it_was(tmp_path: Path):
    rule, weight = Plateau(patience=1, factor=2.0, least=0.1), torch.zeros(1)
    # the second has the rate that the first has by then, as an optimiser that is taken up again
    stopping = [EarlyStopping(1, None, rule, [torch.optim.SGD([weight], rate)]) for rate in (1.0, 0.5)]
    for score in (0.5, 0.4, 0.6):
        stopping[0].look(torch.tensor([score]), {"w": torch.zeros(1)})
    checkpoint.save(tmp_path / "state", stopping[0].state())
    stopping[1].restore(checkpoint.load(tmp_path / "state"))
    ends = []
    for one in stopping:
        looks = 0
        while not one.enough:
            one.look(torch.tensor([0.5]), {"w": torch.zeros(1)})
            looks += 1
        ends.append(looks)
    assert ends == [3, 3]


@pytest.mark.parametrize("together", [True, False])
def test_the_epoch_of_least_validation_loss_is_kept_where_the_loss_is_to_decide(together: bool):
    net = net_of()
    x = torch.randn(30, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    validation, train = (x, x.flatten(1)[:, :3].argmax(dim=1)), Train(epochs=6, batch=16, lr=0.4, momentum=0.9)
    options: dict[str, Any] = {"side_by_side": together, "train": train, "validation": validation, "judge": "loss"}

    def losses(params: Tree) -> torch.Tensor:
        return torch.stack([F.cross_entropy(logits, validation[1]) for logits in net.all(params, x)])

    kept, last = (losses(run(job_of(net, **options, keep_best=best))[0]) for best in (True, False))
    assert torch.equal(last, losses(run(job_of(net, **{**options, "validation": None}))[0]))
    assert (kept < last).any() and (kept <= last).all()


@pytest.mark.parametrize("together", [True, False])
def test_gradients_of_each_seed_are_clipped_to_a_norm_all_weights_together(together: bool):
    net, params = net_of(), net_of().init([0, 1, 2])
    train = Train(epochs=1, batch=50, lr=1.0)
    moved = []
    for clip in (None, 0.01):
        after = run(job_of(net, params=params, side_by_side=together, train=train, clip=clip))[0]
        steps = torch.cat([(after[name] - params[name]).flatten(1) for name in params], dim=1)
        moved.append(steps)
    free, clipped = moved
    assert (free.norm(dim=1) > 0.02).all()
    torch.testing.assert_close(clipped.norm(dim=1), torch.full((3,), 0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close(clipped / 0.01, free / free.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("together", [True, False])
def test_images_are_moved_and_mirrored_anew_in_every_pass_and_for_every_seed(together: bool):
    net, seen = net_of(), []

    def loss(params: Tree, frozen: None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(net.one(params, x), y) if together else watched(params, x, y)

    def watched(params: Tree, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().clone())
        return F.cross_entropy(net.one(params, x), y)

    how = Train(epochs=2, batch=50, crop=1, flip=0.5)
    job = job_of(net, train=how, loss=loss, side_by_side=together)
    trained, _ = run(job)
    plain, _ = run(job_of(net, train=Train(epochs=2, batch=50), side_by_side=together))
    assert not torch.allclose(trained["head.weight"], plain["head.weight"])
    alone, _ = run(job_of(net, [1], train=how, params=net.init([1])))
    torch.testing.assert_close(trained["head.weight"][1], alone["head.weight"][0], rtol=1e-4, atol=1e-5)
    if not together:
        order = [torch.sort(x.flatten(1).sum(dim=1)).values for x in seen]  # of the rows, whatever their order
        assert not any(torch.allclose(a, b) for a, b in itertools.combinations(order, 2))


@given(crop=st.integers(0, 3), flip=st.sampled_from([0.0, 0.5, 1.0]), height=st.integers(3, 6), width=st.integers(3, 6))
def test_an_augmented_image_is_a_part_of_the_padded_one_or_its_mirror_image(
    crop: int, flip: float, height: int, width: int
):
    how = Augmentation(crop, flip)
    x = torch.rand(4, 2, height, width)
    drawn = how.draw(4, torch.Generator().manual_seed(0))
    pad_value = torch.tensor([-1.0, -2.0]).reshape(2, 1, 1)
    shown = how.applied(x, drawn, pad_value)
    padded = torch.cat([F.pad(x[:, c : c + 1], [crop] * 4, value=-1.0 - c) for c in range(2)], dim=1)
    for row, (down, right, mirrored, *never) in enumerate(drawn.tolist()):
        assert never == [0, 0]
        part = padded[row, :, down : down + height, right : right + width]
        assert torch.equal(shown[row], part.flip(-1) if mirrored else part)
    assert flip not in (0.0, 1.0) or bool((drawn[:, 2] == flip).all())


def test_black_is_what_scaling_makes_of_zero_for_stored_pixels_and_what_the_stream_says_for_floats():
    net = Net(plugins.net_builder("mlp", {"hidden": [4]}, (2, 3, 3), 2), (2, 3, 3), mean=(8.0, 4.0), std=(2.0, 4.0))
    assert net.pad_value(torch.uint8).flatten().tolist() == [-4.0, -1.0]
    assert net.pad_value(torch.float32).item() == 0.0


def test_rows_shown_through_random_transformations_are_asked_for_before_every_pass():
    asked = []

    def again(number: int) -> torch.Tensor:
        asked.append(number)
        return torch.full((50, 1, 6, 6), float(number % 7))

    net = net_of()
    run(job_of(net, [0, 1], params=net.init([0, 1]), resample=again, side_by_side=False))
    assert len(asked) == len(set(asked)) == 6  # three passes of two seeds
    first = list(asked)
    run(job_of(net, [0, 1], params=net.init([0, 1]), resample=again, side_by_side=True))
    assert asked[6:] == first


def test_crops_of_what_is_no_image_are_refused_in_a_sentence():
    with pytest.raises(UsageError, match=r"train.crop.*for images.*\(8,\)"):
        Train(crop=1).augmentation.check((8,))


def test_nothing_to_learn_from_is_refused_in_a_sentence():
    nothing = torch.zeros(0, 1, 6, 6), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(UsageError, match="no rows to learn task 0 from, at step 0"):
        run(job_of(net_of(), rows=nothing))


@pytest.mark.parametrize("together", [True, False])
def test_products_in_bfloat16_leave_weights_in_float32_and_end_nearby(together: bool):
    net = net_of()
    exact, _ = run(job_of(net, side_by_side=together))
    rough, _ = run(
        job_of(net, side_by_side=together, train=Train(epochs=3, batch=16, lr=0.1, momentum=0.9, precision="bfloat16"))
    )
    for name, tensor in rough.items():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, exact[name])
        torch.testing.assert_close(tensor, exact[name], rtol=0, atol=0.05)


def test_seeds_in_processes_of_their_own_learn_what_they_learn_in_turn(
    forking: list[int], monkeypatch: pytest.MonkeyPatch
):
    net = net_of()
    validation = job_of(net).rows
    changes: dict[str, Any] = {"side_by_side": False, "curve": Curve(1, 1), "validation": validation, "patience": 1}

    def results(divided: bool) -> tuple[Tree, list[Any]]:
        monkeypatch.setattr("cl_engine.training.workers.FORK_FROM", 0 if divided else float("inf"))
        events, points, loop = [], [], fit(job_of(net, **changes))
        while True:
            try:
                event = next(loop)
            except StopIteration as end:
                return end.value, [events, points]
            if isinstance(event, TrainingProbe):
                points.append((event.batch, event.predict(validation[0]).argmax(dim=-1).tolist()))
            elif isinstance(event, EpochEnded):
                events.append(event)

    (alone, told), none = results(False), len(forking)
    (divided, told_too), some = results(True), len(forking)
    assert (none, some) == (0, 2)  # two processes for three seeds
    assert told == told_too
    for name in alone:
        torch.testing.assert_close(alone[name], divided[name], rtol=0, atol=0)


def test_what_goes_wrong_in_a_process_of_its_own_is_raised_where_the_fit_is(forking: list[int]):
    net = net_of()

    def odd(params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if os.getpid() != here:
            raise UsageError("the loss is odd")
        return F.cross_entropy(net.one(params, x), y)

    here = os.getpid()
    with pytest.raises(UsageError, match="the loss is odd"):
        run(job_of(net, side_by_side=False, loss=odd))
    assert all_gone(forking)


def test_a_process_that_is_killed_ends_the_fit_with_a_sentence(forking: list[int]):
    net = net_of()

    def deadly(params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return F.cross_entropy(net.one(params, x), y)

    here = os.getpid()
    with pytest.raises(RunFailed, match="run fewer seeds at a time"):
        run(job_of(net, side_by_side=False, loss=deadly))
    assert all_gone(forking)


def test_who_stops_reading_a_fit_leaves_no_process_behind(forking: list[int]):
    loop = fit(job_of(net_of(), side_by_side=False, train=Train(epochs=50, batch=16)))
    next(loop)
    loop.close()
    assert all_gone(forking)


def all_gone(processes: list[int]) -> bool:
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    return len(processes) == 2


def test_the_options_that_a_strategy_may_set_are_fields_of_the_job():
    assert FitOptions.__annotations__.keys() <= {field.name for field in fields(FitJob)}


def test_an_observer_follows_every_step_of_seeds_in_turn_and_changes_nothing():
    class Points:
        def __init__(self) -> None:
            self.seen: list[str] = []
            self.until = 100

        def fit_begins(self, fits: Sequence[ObservedFit]) -> None:
            self.seen.append(f"fits {len(fits)}")

        def fit_ends(self) -> None:
            self.seen.append("over")

        def batch_begins(self, x: torch.Tensor, y: torch.Tensor) -> None:
            torch.rand(3)  # what it draws is its own affair
            if sum(point == "ends" for point in self.seen) == self.until:
                raise FitEnded
            self.seen.append(f"begins {len(x)} {len(y)}")

        def batch_answered(self, logits: torch.Tensor, loss: torch.Tensor) -> None:
            assert not logits.requires_grad
            self.seen.append(f"answered {tuple(logits.shape)}")

        def gradients_known(self) -> None:
            self.seen.append("gradients")

        def batch_ends(self) -> None:
            self.seen.append("ends")

    net, points = net_of(), Points()
    memory = tuple(torch.cat([rows, rows]).unsqueeze(0) for rows in job_of(net).rows)
    how: dict[str, Any] = {"seeds": [0], "rehearsal": memory, "train": Train(epochs=1, batch=25)}
    plain, _ = run(job_of(net, **how))
    observed, events = run(job_of(net, **how, observer=points))
    unobserved = [event.flops for event in run(job_of(net, **how))[1] if isinstance(event, EpochEnded)]
    assert [event.flops for event in events if isinstance(event, EpochEnded)] == unobserved
    step = ["begins 25 25", "answered (25, 3)", "gradients", "ends"]
    assert points.seen == ["fits 1", *step * 2, "over"]
    assert all(torch.equal(plain[name], observed[name]) for name in plain)
    half = Points()
    half.until = 1
    ended, events = run(job_of(net, **how, observer=half))
    assert half.seen == ["fits 1", *step, "over"]
    assert not events
    assert any(not torch.equal(plain[name], ended[name]) for name in plain)


def test_the_mean_share_of_the_rate_is_that_of_the_steps_of_a_fit():
    train = Train(optimizer="sgd", lr=0.1, epochs=6, schedule="cosine", milestones=[2, 4], gamma=0.5)
    optimizers, trains = optimizers_for({("w",): torch.zeros(1, requires_grad=True)}, train, {})
    rates, found = Rates(optimizers, trains, train.epochs, batches=1), []
    for _ in range(train.epochs):
        found.append(optimizers[0].param_groups[0]["lr"] / train.lr)
        optimizers[0].step()
        rates.end_epoch()
    assert mean_share(train, batches=1) == pytest.approx(sum(found) / train.epochs)
