"""Options of training: schedules, warm-up, clipping, averages, early stopping, each as a plain loop of torch would have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cl_engine.checkpoints import file as checkpoint
from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.events import EpochEnded
from cl_engine.experiment import Experiment
from cl_engine.targets.classes import Classes
from cl_engine.targets.numbers import Numbers
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.fit_progress import FitRecord, Resumable
from cl_engine.training.optimizers import Train
from cl_engine.training.rates import mean_share
from tests.test_fit import job_of, net_of, run

EPOCHS, BATCHES = 4, 4
STEPS = EPOCHS * BATCHES
Made = Callable[[torch.optim.Optimizer], Any]
# training options, the schedule a plain loop would make, and whether it counts steps
SCHEDULES: dict[str, tuple[dict[str, Any], Made, bool]] = {
    "step": ({"schedule": "step?step_size=2&gamma=0.5"}, lambda o: lr_scheduler.StepLR(o, 2, 0.5), False),
    "multi_step": (
        {"schedule": "multi_step?milestones=[3, 9]", "schedule_by": "step"},
        lambda o: lr_scheduler.MultiStepLR(o, [3, 9]),
        True,
    ),
    "constant": ({"schedule": "constant_lr?factor=0.5"}, lambda o: lr_scheduler.ConstantLR(o, 0.5), False),
    "linear": ({"schedule": "linear?total_iters=3"}, lambda o: lr_scheduler.LinearLR(o, total_iters=3), False),
    "exponential": ({"schedule": "ExponentialLR?gamma=0.7"}, lambda o: lr_scheduler.ExponentialLR(o, 0.7), False),
    "polynomial": ({"schedule": "polynomial?power=2"}, lambda o: lr_scheduler.PolynomialLR(o, EPOCHS, 2.0), False),
    "cosine": ({"schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS), False),
    "cosine by step": (
        {"schedule": "cosine?eta_min=0.01", "schedule_by": "step"},
        lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.01),
        True,
    ),
    "restarts": (
        {"schedule": "cosine_annealing_warm_restarts?T_0=3&T_mult=2", "schedule_by": "step"},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
        True,
    ),
    "one_cycle": ({"schedule": "one_cycle"}, lambda o: lr_scheduler.OneCycleLR(o, 0.1, STEPS), True),
    "one_cycle of adam": (
        {"schedule": "one_cycle?max_lr=0.02&pct_start=0.5", "optimizer": "adam", "betas": [0.8, 0.99], "eps": 1e-6},
        lambda o: lr_scheduler.OneCycleLR(o, 0.02, STEPS, pct_start=0.5),
        True,
    ),
    "cyclic": (
        {"schedule": "cyclic?base_lr=0.01&step_size_up=3", "momentum": 0.9, "nesterov": True},
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3),
        True,
    ),
}
MORE: dict[str, dict[str, Any]] = {
    "clip_norm": {"clip_norm": 0.3},
    "clip_value": {"clip_value": 0.01, "momentum": 0.9},
    "label_smoothing": {"label_smoothing": 0.2},
    "ema": {"ema": 0.9, "momentum": 0.9},
    "warmup": {"warmup": 1.5, "schedule": "step?step_size=2"},
    "adamw": {"optimizer": "adamw", "betas": [0.7, 0.9], "eps": 1e-3, "weight_decay": 0.1},
}


def asked(options: dict[str, Any], **changes: Any) -> FitJob:
    net, train = net_of(), Train(**{"epochs": EPOCHS, "batch": 16, "lr": 0.1, **options})
    loss = lambda params, frozen, x, y: F.cross_entropy(net.one(params, x), y, label_smoothing=train.label_smoothing)  # noqa: E731
    return job_of(net, [4, 7], **{"loss": loss, "train": train, **changes})


def by_hand(job: FitJob, place: int, schedule: Made | None = None, by_step: bool = False) -> dict[str, torch.Tensor]:
    """Train one seed as a plain loop of torch would, on the batches that the engine derives."""
    how = job.train
    params = {name: tensor[place].clone().requires_grad_() for name, tensor in job.params.items()}
    kind: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[how.optimizer]
    own = {"betas": how.betas, "eps": how.eps} if how.betas else {"momentum": how.momentum, "nesterov": how.nesterov}
    optimizer = kind(params.values(), lr=how.lr, weight_decay=how.weight_decay, fused=True, **own)
    made = schedule(optimizer) if schedule else None
    holder = torch.nn.ParameterList(params.values())
    average = AveragedModel(holder, multi_avg_fn=get_ema_multi_avg_fn(how.ema))
    step = 0
    for epoch in range(how.epochs):
        order = torch.randperm(50, generator=rng.tensors(job.seeds[place], "order", 0, 0, epoch))
        for index in order.split(how.batch):
            optimizer.zero_grad()
            loss = job.loss(params, None, job.rows[0][index], job.rows[1][index])
            loss.backward()
            if how.clip_norm:
                torch.nn.utils.clip_grad_norm_(params.values(), how.clip_norm)
            if how.clip_value:
                torch.nn.utils.clip_grad_value_(params.values(), how.clip_value)
            rate, step = optimizer.param_groups[0]["lr"], step + 1
            if how.warmup:
                optimizer.param_groups[0]["lr"] = rate * min(1.0, step / (how.warmup * BATCHES))
            optimizer.step()
            optimizer.param_groups[0]["lr"] = rate
            average.update_parameters(holder)
            if made and by_step:
                made.step()
        if made and not by_step:
            made.step()
    return dict(zip(params, average.module if how.ema else params.values(), strict=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_comes_to_what_a_plain_loop_of_torch_comes_to_and_side_by_side_within_rounding(name: str):
    options, schedule, by_step = SCHEDULES[name]
    trained, _ = run(asked(options, side_by_side=False))
    for place in (0, 1):
        for weight, tensor in by_hand(asked(options), place, schedule, by_step).items():
            assert torch.equal(trained[weight][place], tensor.detach())
    together, _ = run(asked(options, side_by_side=True))
    for weight in trained:
        torch.testing.assert_close(together[weight], trained[weight], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", MORE)
def test_an_option_comes_to_what_a_plain_loop_of_torch_comes_to_and_side_by_side_within_rounding(name: str):
    schedule = (lambda o: lr_scheduler.StepLR(o, 2)) if "schedule" in MORE[name] else None
    trained, _ = run(asked(MORE[name], side_by_side=False))
    plain, _ = run(asked({}, side_by_side=False))
    for place in (0, 1):
        for weight, tensor in by_hand(asked(MORE[name]), place, schedule).items():
            torch.testing.assert_close(trained[weight][place], tensor.detach(), rtol=1e-6, atol=1e-8)
            assert not torch.equal(trained[weight], plain[weight])
    together, _ = run(asked(MORE[name], side_by_side=True))
    for weight in trained:
        torch.testing.assert_close(together[weight], trained[weight], rtol=1e-3, atol=1e-5)


def validation() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(30, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return x, x.flatten(1)[:, :3].argmax(dim=1)


RESUMED: dict[str, dict[str, Any]] = {
    **{name: options for name, (options, _, _) in SCHEDULES.items()},
    "ema": {"ema": 0.9, "warmup": 2.5},
    "plateau": {"schedule": "plateau?patience=0&factor=0.3", "lr": 1e-3},
    "patience": {"patience": 0, "lr": 0.8, "momentum": 0.9, "epochs": 8},
}


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("together", [True, False])
def test_a_fit_that_is_taken_up_after_any_epoch_ends_as_one_that_was_not(name: str, together: bool, tmp_path: Path):
    def job(record: FitRecord | None) -> FitJob:
        judged = {"validation": validation(), "patience": RESUMED[name].get("patience")}
        return asked(RESUMED[name], side_by_side=together, record=record, **judged)

    whole, _ = run(job(None))
    record, at = FitRecord(), 0
    for event in fit(job(record)):
        if isinstance(event, Resumable):
            at += 1
            checkpoint.save(tmp_path / str(at), record.state())
    assert at > 1
    for epoch in range(1, at):
        later, _ = run(job(FitRecord.restored(checkpoint.load(tmp_path / str(epoch)))))
        assert all(torch.equal(whole[weight], later[weight]) for weight in whole)


def test_a_plateau_lowers_the_rate_of_each_seed_by_itself():
    rates: list[set[float]] = []

    def judged(schedule: str) -> Tree:
        options = {"schedule": schedule, "lr": 1e-7, "epochs": 6}
        job = asked(options, validation=validation(), keep_best=False, record=(record := FitRecord()))
        for event in fit(job):
            if isinstance(event, Resumable):
                groups = record.state()["learners"].values()
                rates.append({group["optimizers"]["0"]["groups"][0]["lr"] for group in groups})
        return record.result or {}

    judged("plateau?patience=1&factor=0.5")  # nothing is ever better: every second epoch lowers it
    assert [sorted(rate) for rate in rates] == [[1e-7], [1e-7], [5e-8], [5e-8], [2.5e-8], [2.5e-8]]


def test_side_by_side_a_seed_that_has_had_enough_keeps_what_it_had_as_in_turn():
    def ended(together: bool) -> tuple[Tree, list[int]]:
        job = asked(RESUMED["patience"], side_by_side=together, validation=validation(), patience=0)
        trained, events = run(job)
        return trained, [event.epoch for event in events if isinstance(event, EpochEnded)]

    (together, epochs), (in_turn, others) = ended(True), ended(False)
    assert epochs == others and len(epochs) < 8
    for weight in together:
        torch.testing.assert_close(together[weight], in_turn[weight], rtol=1e-3, atol=1e-4)


def test_an_average_is_of_weights_alone_and_answers_in_the_middle():
    net = net_of()

    def loss(params: Tree, frozen: Tree | None, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        params["count"]["steps"].data += 1
        return F.cross_entropy(net.one(params["net"], x), y)

    params = {"net": net.init([0]), "count": {"steps": torch.zeros(1, 1)}}
    train = Train(epochs=2, batch=16, lr=0.5, ema=0.99)
    trained, _ = run(job_of(net, [0], params=params, loss=loss, logits=None, train=train))
    assert trained["count"]["steps"].item() == 8
    assert not torch.equal(trained["net"]["head.weight"], params["net"]["head.weight"])


def test_labels_are_spread_where_classes_are_asked_for_and_measures_know_nothing_of_it(tiny: Callable[..., Experiment]):
    experiment = tiny("finetune", **{"train.label_smoothing": 0.2})
    target = experiment.build_strategy(experiment.stream()).target_of(0)
    outputs, y = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    assert torch.equal(target.loss(outputs, y), F.cross_entropy(outputs, y, label_smoothing=0.2))
    torch.testing.assert_close(target.losses(outputs, y).mean(), F.cross_entropy(outputs, y, label_smoothing=0.2))
    assert torch.equal(target.smoothed(0.0).loss(outputs, y), F.cross_entropy(outputs, y))
    assert target.key == Classes.of(classes=10).key
    numbers = Numbers.of(numbers=3)
    assert numbers.smoothed(0.2) is numbers


def test_the_mean_share_of_a_rate_counts_the_warm_up_and_every_step():
    assert mean_share(Train(epochs=2, lr=0.1, warmup=1.0), batches=4) == pytest.approx((0.25 + 0.5 + 0.75 + 5) / 8)
    linear = Train(epochs=2, lr=0.1, schedule="linear?start_factor=0.5&total_iters=2", schedule_by="step")
    assert mean_share(linear, batches=2) == pytest.approx((0.5 + 0.75 + 1 + 1) / 4)
