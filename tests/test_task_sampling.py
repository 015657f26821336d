"""Which task is practised how much: the rules, and fits whose tasks are weighed by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_engine.analysis.plots import gallery, practice
from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded, Event
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.results.run import open_run
from cl_engine.targets.classes import Classes
from cl_engine.testing import small
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.testing.strategies import Cut
from cl_engine.testing.walking import answers, walk
from cl_engine.training import task_sampling
from cl_engine.training.sampled_fit import TaskWeighed
from cl_engine.training.task_sampling import by_classes, by_error, by_loss, by_progress, shares

Tiny = Callable[..., Experiment]
LOSSES, REFERENCES, LAST = torch.tensor([0.5, 1.0, 1.5]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.9, 1.2, 1.4])
RULES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "loss": lambda losses, references, last: by_loss(losses, references),
    "progress": by_progress,
    "error": lambda losses, references, last: by_error(losses, references),
    "classes": lambda losses, references, last: by_classes(losses + 2),
}
SAMPLED: dict[str, Any] = {"sampling": "loss", "stream.validation": 0.25, "train.epochs": 4}


def weighed(events: list[Event], step: int = 2) -> Tensor:
    """Return the shares of the tasks in each epoch of an experience, ``[epochs, T, S]``."""
    told = [event for event in events if isinstance(event, TaskWeighed) and event.step == step]
    epochs = 1 + max(event.epoch for event in told)
    return torch.tensor([event.weight for event in told]).unflatten(0, (epochs, -1))


@pytest.mark.parametrize("rule", RULES)
def test_shares_sum_to_one_are_not_below_the_floor_and_do_not_depend_on_the_order_of_tasks(rule: str):
    found = shares(RULES[rule](LOSSES, REFERENCES, LAST), floor=0.05)
    assert float(found.sum()) == pytest.approx(1)
    assert float(found.min()) >= 0.05 - 1e-6
    order = torch.tensor([2, 0, 1])
    moved = shares(RULES[rule](LOSSES[order], REFERENCES[order], LAST[order]), floor=0.05)
    torch.testing.assert_close(moved, found[order])


@pytest.mark.parametrize("rule", RULES)
def test_tasks_that_are_alike_have_the_same_share(rule: str):
    alike = torch.full((4,), 0.7)
    torch.testing.assert_close(shares(RULES[rule](alike, alike, alike), floor=0.01), torch.full((4,), 0.25))


def test_shares_have_the_values_that_the_formulas_give():
    # exp(1), exp(2), exp(3); falls of .4, .2 and none; .5 above, and two that are not; ln 2, ln 3, ln 10
    torch.testing.assert_close(shares(by_loss(LOSSES, REFERENCES), 0), torch.tensor([0.090031, 0.244728, 0.665241]))
    torch.testing.assert_close(shares(by_progress(LOSSES, REFERENCES, LAST), 0), torch.tensor([2 / 3, 1 / 3, 0]))
    torch.testing.assert_close(shares(by_error(LOSSES, REFERENCES), 0.1), torch.tensor([0.1, 0.1, 0.8]))
    found = shares(by_classes(torch.tensor([2.0, 3.0, 10.0])), 0)
    torch.testing.assert_close(found, torch.tensor([0.169294, 0.268325, 0.562381]), rtol=1e-5, atol=1e-5)


def test_the_share_of_a_task_falls_whose_loss_falls_below_what_it_is_measured_by():
    before = shares(by_loss(LOSSES, LOSSES), 0.01)
    after = shares(by_loss(LOSSES * torch.tensor([1, 0.5, 1]), LOSSES), 0.01)
    assert after[1] < before[1]
    assert after[0] > before[0]


def test_floors_that_come_to_more_than_one_and_worth_of_nothing_leave_all_alike():
    torch.testing.assert_close(shares(LOSSES, floor=0.9), torch.full((3,), 1 / 3))
    torch.testing.assert_close(shares(torch.zeros(3), floor=0.1), torch.full((3,), 1 / 3))
    known = shares(LOSSES, floor=0.1, known=torch.tensor([True, False, True]))
    torch.testing.assert_close(known, torch.tensor([0.1 + 0.8 * 0.25, 0, 0.1 + 0.8 * 0.75]))


@pytest.mark.parametrize("strategy", ["joint", "replay", "conditioned"])
def test_uniform_is_the_experiment_there_was_before_and_equal_shares_come_to_the_same(tiny: Tiny, strategy: str):
    assert '"sampling"' not in tiny(strategy).json
    stream, learner, events = walk(tiny(strategy, (0,), **{"stream.validation": 0.25}))
    told = list(events)
    assert not any(isinstance(event, TaskWeighed) for event in told)
    assert "held_out" not in learner.state
    # shares that are all alike weigh rows by one
    _, other, events = walk(tiny(strategy, (0,), **{**SAMPLED, "train.epochs": 2, "sampling": "classes"}))
    again = [event for event in events if not isinstance(event, TaskWeighed)]
    losses = [[event.loss for event in some if isinstance(event, EpochEnded)] for some in (told, again)]
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-4, atol=1e-5)
    for task in range(3):
        torch.testing.assert_close(answers(stream, other, task), answers(stream, learner, task), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strategy", ["joint", "replay", "conditioned"])
def test_a_task_that_loses_more_is_practised_more_of_each_seed_by_itself(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, strategy: str
):
    own = {**SAMPLED, "train.lr": 0.05, **({"samples": 3} if strategy == "replay" else {})}
    _, learner, events = walk(tiny(strategy, (0, 1), **own))
    together = weighed(list(events))
    assert (
        together[0].unique().numel() <= 2
    )  # no task is known to need more yet: a third, or a half of those remembered
    assert (together[-1].std(dim=0) > 0.01).all()
    torch.testing.assert_close(together.sum(dim=1), torch.ones(4, 2))
    assert learner.state["held_out"]["x"].shape[:2] == (1, 60)
    for place in range(2):
        alone = weighed(list(walk(tiny(strategy, (place,), **own))[2]))
        there = together[..., place : place + 1]
        torch.testing.assert_close(alone, there[:, there[0, :, 0] > 0][:, -alone.shape[1] :], rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(Net, "side_by_side", lambda net, seeds: seeds > 1)
    torch.testing.assert_close(weighed(list(walk(tiny(strategy, (0, 1), **own))[2])), together, rtol=1e-3, atol=1e-3)


def test_shares_are_those_of_losses_smoothed_over_epochs_and_measured_by_those_after_the_first(tiny: Tiny):
    events = list(walk(tiny("joint", (0,), **SAMPLED, **{"stream.n": 2, "train.lr": 0.05}))[2])
    told = [event for event in events if isinstance(event, TaskWeighed) and event.step == 1]
    losses = torch.tensor([event.loss[0] for event in told]).reshape(-1, 2)
    smooth = losses[1]
    for epoch in range(2, 4):
        smooth = 0.5 * smooth + 0.5 * losses[epoch]
        found = weighed(events, 1)[epoch, :, 0]
        torch.testing.assert_close(found, shares(by_loss(smooth, losses[1]), 0.01), rtol=1e-4, atol=1e-5)


def test_weights_are_factors_of_the_losses_of_rows_and_no_gradient_reaches_them():
    target, outputs, y = Classes.of(classes=3), torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    weights = torch.tensor([2.0, 0, 1, 1])
    found = target.loss(outputs, y, weights)
    torch.testing.assert_close(found, (weights * target.losses(outputs, y)).mean())
    torch.testing.assert_close(target.loss(outputs, y, torch.ones(4)), target.loss(outputs, y))


def test_a_sampled_run_that_is_cut_in_a_fit_goes_on_as_if_it_had_not_been(tiny: Tiny, tmp_path: Path):
    own: dict[str, Any] = {**SAMPLED, "agenda.save_every_epochs": 1, "stream.n": 2, "agenda.curve_batches": 0}
    experiment = tiny("joint", **own)
    whole = facts(experiment.run(tmp_path / "whole", device="cpu") / "log.h5")

    def cutting(event: Event) -> None:
        if isinstance(event, EpochEnded) and (event.step, event.epoch) == (1, 2):
            raise Cut

    with pytest.raises(Cut):
        experiment.run(tmp_path / "cut", device="cpu", listeners=lambda stream: [cutting])
    assert_same_facts(facts(experiment.run(tmp_path / "cut", device="cpu") / "log.h5"), whole, "cut and resumed: ")


def test_losses_are_measured_by_those_of_a_run_of_independent(tiny: Tiny, tmp_path: Path):
    folder = tiny("independent", **{"stream.validation": 0.25}).run(tmp_path / "own", device="cpu")
    table = open_run(folder).table("events")
    told = table[(table["kind"] == "HeldOutTested") & (table["name"] == "loss")]
    wanted = told.groupby("step")["value"].mean()
    stream = tiny("joint", **SAMPLED).stream()
    joint = tiny("joint", **SAMPLED, losses_from=str(folder)).build_strategy(stream)
    torch.testing.assert_close(joint._references, torch.tensor(wanted.values, dtype=torch.float32))  # type: ignore[attr-defined]
    # measured so, tasks are told apart from the second epoch on
    events = list(walk(tiny("joint", **SAMPLED, losses_from=str(folder)))[2])
    assert weighed(events)[1].std() > 1e-4
    assert weighed(list(walk(tiny("joint", **SAMPLED))[2]))[1].std() < 1e-6
    with pytest.raises(UsageError, match=r"losses_from: .* has no loss of 'permutation 3'; it has those of: plain"):
        tiny("joint", **SAMPLED, losses_from=str(folder), **{"stream.n": 4}).build_strategy(
            tiny("joint", **{"stream.n": 4, "stream.validation": 0.25}).stream()
        )
    plain = tiny("independent").run(tmp_path / "plain", device="cpu")
    with pytest.raises(UsageError, match=r"tells of no validation rows: take a run of `independent`"):
        tiny("joint", **SAMPLED, losses_from=str(plain)).build_strategy(stream)


def test_tasks_that_ask_for_different_things_are_practised_by_their_losses():
    own = {**SAMPLED, "train.epochs": 3, "stream.views": ["shape", "depth", "boxes"], "agenda.evaluate_every": 0}
    found = weighed(list(walk(Experiment.of(small.views(), "joint", (0,), **own))[2]))[-1]
    assert found.isfinite().all()
    assert found.std() > 1e-3


def test_by_classes_a_task_of_more_classes_is_practised_more():
    own = {"stream.n": 2, "stream.labels": [[0, 1, 2, 3], [4, 5]], "stream.samples_per_class": 5, "net.hidden": [8]}
    experiment = Experiment.of(
        "endless_compositional", "joint", (0,), **own, **{"sampling": "classes", "train.epochs": 1}
    )
    found = weighed(list(walk(experiment)[2]), step=1)
    torch.testing.assert_close(found, torch.tensor([[[0.01 + 0.98 * 2 / 3], [0.01 + 0.98 / 3]]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "loss"}, r"'loss' goes by the losses of validation rows, and the stream sets none aside"),
        (
            {**SAMPLED, "floor": 0.4},
            r"strategy\.floor: 3 tasks of 0\.4 each are more than 1; allowed is 1/3 at most",
        ),
        ({"losses_from": "nowhere"}, r"losses_from: sampling = 'uniform' looks at no losses: leave it out"),
        ({"sampling": "worst"}, r"sampling"),
        ({"floor": -0.1}, r"floor"),
        ({**SAMPLED, "losses_from": "nowhere"}, r"nowhere"),
    ],
)
@pytest.mark.parametrize("strategy", ["joint", "replay", "conditioned"])
def test_what_cannot_be_sampled_is_refused_in_a_sentence(
    tiny: Tiny, strategy: str, options: dict[str, Any], message: str
):
    with pytest.raises(UsageError, match=message):
        experiment = tiny(strategy, **options)
        experiment.build_strategy(experiment.stream())


def test_errors_and_classes_are_for_tasks_that_ask_for_classes():
    for rule in ("error", "classes"):
        experiment = Experiment.of(small.views(), "joint", sampling=rule)
        with pytest.raises(UsageError, match=f"'{rule}' is for tasks that ask for classes, and one asks for"):
            experiment.build_strategy(experiment.stream())


def test_the_rules_there_are_are_those_that_are_computed():
    assert set(task_sampling.Rule.__args__) == {"uniform", *RULES}  # type: ignore[attr-defined]


def test_shares_of_practice_are_drawn_over_the_epochs_of_the_last_experience(tiny: Tiny, tmp_path: Path):
    run = open_run(tiny("joint", **SAMPLED, **{"train.lr": 0.05}).run(tmp_path / "run", device="cpu"))
    drawn = {picture.name: picture.draw for picture in gallery.of_run(run)}
    fig = drawn["practice"]()
    assert fig is not None
    assert "2 seeds" in fig.axes[0].get_title(loc="left")
    lines = {line.get_label(): np.array(line.get_ydata(), float) for line in fig.axes[0].lines}
    named = np.stack([lines[name] for name in run.results["task_name"].values])
    np.testing.assert_allclose(named.sum(axis=0), np.ones(4), rtol=1e-5)
    assert named[:, -1].std() > 0.001
    plain = open_run(tiny("joint").run(tmp_path / "plain", device="cpu"))
    assert practice.task_shares(plain) is None
