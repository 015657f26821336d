"""Strategy `auxiliary`: side tasks weighed by their gradients, against what can be computed by hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.analysis.plots.side_tasks import side_weights
from cl_engine.core.state import bytes_by_part
from cl_engine.data.label_function import DigitRule
from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded
from cl_engine.experiment import Experiment
from cl_engine.modules.side_tasks import SideTask, WeighedLoss
from cl_engine.modules.weighing import (
    RULES,
    AuxiliaryWeighed,
    LookedAhead,
    gradients,
    gramian,
    look_ahead,
    rule_named,
    scaled,
)
from cl_engine.nn.net import Net
from cl_engine.nn.task_heads import row_of
from cl_engine.results.run import open_run
from cl_engine.strategies.auxiliary import Auxiliary
from cl_engine.targets.classes import Classes
from cl_engine.testing.walking import answers, walk

Tiny = Callable[..., Experiment]
DIGITS: dict[str, Any] = {
    "stream.views": ["parity", "digit"],
    "stream.labelled": [60, 20],
    "stream.test_rows": 40,
    "net.name": "mlp",
    "net.hidden": [16],
    "train.epochs": 3,
    "train.batch": 10,
    "agenda.evaluate_ahead": 0,
}


class Shifted(DigitRule):
    """The digit and three, modulo ten.

    >>> Shifted.answers[9]
    2
    """

    answers = tuple((digit + 3) % 10 for digit in range(10))


class Opposite(Classes):
    """One class a row, learned away from."""

    def mean_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return -F.cross_entropy(outputs, y)


def small_net() -> Net:
    return Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3)), (1, 3, 3))


def of(*rows: list[float]) -> Tensor:
    """Return the Gramian of gradients."""
    return gramian([{"w": torch.tensor(row)} for row in rows])


def weighed_loss(net: Net, side: SideTask, rule: str = "gate", smooth: float = 0.0, every: int = 0) -> WeighedLoss:
    return WeighedLoss(net, Classes.of(classes=3), [side], rule, smooth=smooth, every=every, rate=0.1)


def gradient(net: Net, loss: WeighedLoss, rows: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], Any]:
    """Return the gradient of a loss with regard to the net's weights, and the tree that was fitted."""
    params = {name: tensor[0].clone().requires_grad_() for name, tensor in net.init([0]).items()}
    tree = loss.start({name: tensor.detach()[None] for name, tensor in params.items()}, {}, [0], 0, 1)
    notes = {name: tensor[0] for name, tensor in tree["notes"].items()}
    heads = {name: tensor[0].requires_grad_() for name, tensor in tree["side_heads"].items()}
    fitted = {"net": params, "side_heads": heads, "notes": notes}
    loss(fitted, None, *rows, torch.tensor(0), torch.tensor(0)).backward()
    return {name: tensor.grad for name, tensor in params.items() if tensor.grad is not None}, fitted


def alone(net: Net, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    params = {name: tensor[0].clone().requires_grad_() for name, tensor in net.init([0]).items()}
    F.cross_entropy(net.one(params, x), y).backward()
    return {name: tensor.grad for name, tensor in params.items() if tensor.grad is not None}


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(8, 1, 3, 3, generator=draw), torch.randint(3, (8,), generator=draw)


@pytest.mark.parametrize(
    ("side", "weighted", "gated"),
    [
        ([3.0, 4.0], 1.0, 1.0),
        ([-3.0, -4.0], 0.0, 0.0),
        ([-4.0, 3.0], 0.0, 1.0),
        ([1.0, 0.0], 0.6, 1.0),
        ([0.0, 0.0], 0, 1),
    ],
)
def test_a_rule_weighs_a_side_task_by_the_cosine_of_its_gradient(side: list[float], weighted: float, gated: float):
    found = of([3.0, 4.0], side)
    assert RULES["cosine"](found).tolist() == pytest.approx([1.0, weighted])
    assert RULES["gate"](found).tolist() == [1.0, gated]
    assert RULES["fixed"](found).tolist() == [1.0, 1.0]


def test_rules_of_many_seeds_at_once_are_those_of_each():
    draw = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    every = draw @ draw.transpose(1, 2)
    for rule in RULES.values():
        torch.testing.assert_close(torch.vmap(rule)(every), torch.stack([rule(one) for one in every]))


def test_a_side_task_with_the_gradient_of_the_main_one_doubles_the_step_and_its_opposite_leaves_it_bit_for_bit(
    rows: tuple[Tensor, Tensor],
):
    net, (x, y) = small_net(), rows
    main = alone(net, x, y)
    twice, _ = gradient(net, weighed_loss(net, SideTask("same", Classes.of(classes=3), x, y, True)), (x, y, x, y))
    opposed, fitted = gradient(
        net, weighed_loss(net, SideTask("not", Opposite.of(classes=3), x, y, True)), (x, y, x, y)
    )
    for name, own in main.items():
        torch.testing.assert_close(twice[name], 2 * own)
        assert torch.equal(opposed[name], own)
    weight, cosine = fitted["notes"]["weighed"][0, :, 0].tolist()
    assert (weight, cosine) == (0.0, pytest.approx(-1.0))


def test_a_side_task_of_weight_nothing_still_teaches_its_own_head_and_nothing_else(rows: tuple[Tensor, Tensor]):
    net, (x, y) = small_net(), rows
    side = SideTask("own", Classes.of(classes=3), x, y, weight=0.0)
    found, fitted = gradient(net, weighed_loss(net, side, "fixed"), (x, y, x, y))
    assert all(torch.equal(found[name], own) for name, own in alone(net, x, y).items())
    assert fitted["side_heads"]["0"].grad.abs().sum() > 0
    features = torch.randn(5, 4, requires_grad=True)
    scaled(features, torch.tensor(0.3)).sum().backward()
    assert torch.equal(scaled(features, torch.tensor(0.3)), features)
    assert features.grad is not None and torch.allclose(features.grad, torch.full((5, 4), 0.3))


def test_a_gate_follows_the_smoothed_cosine_and_not_the_batch(rows: tuple[Tensor, Tensor]):
    net, (x, y) = small_net(), rows
    loss = weighed_loss(net, SideTask("not", Opposite.of(classes=3), x, y, True), smooth=0.9)
    _, fitted = gradient(net, loss, (x, y, x, y))
    assert fitted["notes"]["agreement"][0, 1].item() == pytest.approx(-0.1)
    with torch.no_grad():
        fitted["notes"]["agreement"][0, 1] = 0.5
    loss(fitted, None, x, y, x, y, torch.tensor(0), torch.tensor(1))
    assert fitted["notes"]["agreement"][0, 1].item() == pytest.approx(0.35)
    assert fitted["notes"]["weighed"][0, 0, 0].item() == 1.0  # 0 of the first batch, 1 of this one


def test_a_look_ahead_is_the_share_of_a_loss_that_a_step_takes_away():
    theta, one, other, rate = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), torch.tensor([3.0, 0.0]), 0.1

    def towards(goal: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
        return lambda own: 0.5 * (own["w"] - goal).square().sum()

    losses, shared = [towards(one), towards(other), towards(theta)], {"w": theta}
    values, found = gradients(losses, shared)
    gains = look_ahead(losses, values, found, shared, rate)
    assert gains[0, 0].item() == pytest.approx(1 - (1 - rate) ** 2)
    assert gains[1, 1].item() == pytest.approx(1 - (1 - rate) ** 2)
    moved = theta - rate * (theta - one)
    assert gains[0, 1].item() == pytest.approx(
        1 - ((moved - other).square().sum() / (theta - other).square().sum()).item()
    )
    assert gains[0, 2].item() == 0.0  # nothing is lost there


@pytest.mark.parametrize("rule", ["UPGrad", "MGDA", "PCGrad", "DualProj", "AlignedMTL", "IMTLG", "FairGrad?alpha=1.0"])
def test_a_weighting_of_torchjd_is_a_rule(rule: str):
    pytest.importorskip("torchjd", reason="the extra mtl is not installed")
    weights = rule_named(rule)(of([1.0, 0.0], [-1.0, 1.0]))
    assert weights.shape == (2,)
    step = weights[0] * torch.tensor([1.0, 0.0]) + weights[1] * torch.tensor([-1.0, 1.0])
    assert (torch.tensor([[1.0, 0.0], [-1.0, 1.0]]) @ step > -1e-5).all()  # against neither
    assert rule_named("UPGrad")(torch.full((2, 2), torch.nan)).isnan().all()


def test_without_side_tasks_at_hand_it_is_finetuning_bit_for_bit(tiny: Tiny):
    found: dict[str, Any] = {}
    later = {"menu": ["permutation 2"]}  # which comes last
    for name, options in {
        "finetune": {},
        "gate": {**later, "rule": "gate"},
        "none": {"menu": [], "rule": "none"},
    }.items():
        stream, strategy, events = walk(tiny("finetune" if name == "finetune" else "auxiliary", **options))
        losses = [event.loss for event in events if isinstance(event, EpochEnded)]
        found[name] = losses, [answers(stream, strategy, task) for task in range(3)]
    for losses, said in (found["gate"], found["none"]):
        assert losses == found["finetune"][0]
        assert all(torch.equal(one, other) for one, other in zip(said, found["finetune"][1], strict=True))


def digits(seeds: tuple[int, ...] = (0, 1), **changes: Any) -> tuple[Any, Auxiliary, list[Any]]:
    stream, strategy, events = walk(Experiment.of("views_digits", "auxiliary", seeds, **{**DIGITS, **changes}))
    assert isinstance(strategy, Auxiliary)
    return stream, strategy, list(events)


def test_weights_are_told_once_an_epoch_and_look_ahead_from_each_task_to_each():
    _, _, events = digits(menu=["rotation", "parity"], tag_every=3)
    told = [(e.step, e.part, e.epoch) for e in events if isinstance(e, AuxiliaryWeighed)]
    first = [(0, "rotation", epoch) for epoch in range(3)]  # a task is no side task of itself, nor before it is met
    assert told == first + [(1, name, epoch) for epoch in range(3) for name in ("rotation", "parity")]
    ahead = [(e.part, e.epoch) for e in events if isinstance(e, LookedAhead) and e.step == 1]
    names = ("main", "rotation", "parity")
    # of six batches in all the first and the fourth: none in the last epoch
    assert ahead == [(f"{one}>{other}", epoch) for epoch in (0, 1) for one in names for other in names]
    own = [e.gain for e in events if isinstance(e, LookedAhead) and e.part == "main>main"]
    assert all(0 < gain < 0.5 for of_seeds in own for gain in of_seeds)
    assert all(-1 <= c <= 1 for e in events if isinstance(e, AuxiliaryWeighed) for c in e.cosine)


def test_rows_of_named_tasks_are_kept_and_counted_and_heads_only_where_that_is_asked_for():
    changes: dict[str, Any] = {"menu": ["parity", "flip"], "rule": "fixed", "train.epochs": 1}
    _, strategy, _ = digits(**changes)
    assert {*strategy.state} == {"net", "heads", "kept"}
    assert bytes_by_part(strategy.state)["kept"] == 60 * (64 + 8)  # as bytes, and labels
    assert strategy.state["kept"]["0"]["x"].shape == (1, 60, 1, 8, 8)
    _, strategy, _ = digits(**changes, keep_heads=True)
    assert {name: tuple(head.shape) for name, head in strategy.state["side_heads"].items()} == {
        "1": (2, 2, 17),
        "0": (2, 2, 17),
    }


def test_rows_without_labels_are_kept_for_side_tasks_that_need_none():
    changes: dict[str, Any] = {"stream.unlabelled": [0], "menu": ["rotation"], "train.epochs": 1}
    stream, strategy, events = digits(**changes)
    assert strategy.state["unlabelled"]["x"].shape == (1, 60, 1, 8, 8)
    assert [event.step for event in events if isinstance(event, EpochEnded)] == [1]
    [side] = strategy._sides(stream[1])
    assert (side.name, len(side.x), side.augmented) == (
        "rotation",
        80,
        False,
    )  # labels would not follow images that are moved
    assert set(side.y.tolist()) == {0, 1, 2, 3}
    with pytest.raises(
        UsageError, match=r"stream.unlabelled: found \[0\], and no side task of strategy.menu does without"
    ):
        digits(**{**changes, "menu": ["digit"]})


def test_a_task_that_is_no_main_task_is_kept_and_learned_beside_those_that_are():
    _, strategy, events = digits(menu=["parity"], main=["digit"], rule="fixed")
    assert [event.step for event in events if isinstance(event, EpochEnded)] == [1] * 3
    assert torch.equal(strategy.state["heads"][0], row_of(strategy.net.init([0, 1])))
    assert {event.part for event in events if isinstance(event, AuxiliaryWeighed)} == {"parity"}


def test_the_control_of_equal_compute_learns_the_main_task_alone_for_as_many_epochs_more():
    _, strategy, events = digits(menu=["parity", "flip"], rule="none")
    assert [sum(isinstance(e, EpochEnded) and e.step == step for e in events) for step in (0, 1)] == [2 * 3, 3 * 3]
    assert not [event for event in events if isinstance(event, AuxiliaryWeighed)]
    assert "side_heads" not in strategy.state


def test_a_label_function_may_ask_for_maps_of_a_net_that_answers_once_a_row():
    _, _, events = digits((0,), menu=["autoencode", "denoise"], rule="fixed", **{"train.epochs": 8, "stream.n": 1})
    assert {event.part for event in events if isinstance(event, AuxiliaryWeighed)} == {"autoencode", "denoise"}
    losses = [event.loss[0] for event in events if isinstance(event, EpochEnded)]
    assert losses[-1] < losses[0]


def test_running_statistics_are_those_of_the_main_task_alone(tiny: Tiny):
    nets: dict[str, Any] = {"net.name": "cl_engine.testing.small:with_batchnorm", "net.hidden": 8, "stream.n": 1}
    states = []
    for name, options in {"finetune": {}, "auxiliary": {"menu": ["rotation"], "weight": 0.0, "rule": "fixed"}}.items():
        _, strategy, events = walk(tiny(name, (0,), **nets, **options))
        list(events)
        states.append(strategy.state["net"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_task_that_contradicts_the_main_one_is_switched_off_where_they_share_a_head():
    """Digits from few labels beside other rows labelled otherwise: weight 1 ruins the main task, a smoothed gate does not."""
    view = f"{__name__}:Shifted"
    changes: dict[str, Any] = {
        "stream.views": [view, "digit"],
        "stream.labelled": [600, 60],
        "stream.test_rows": 200,
        "net.hidden": [32],
        "train.epochs": 25,
        "train.batch": 20,
        "menu": [view],
        "main_head": [view],
    }
    score: dict[str, float] = {}
    for rule in ("fixed", "gate"):
        stream, strategy, events = digits((0,), rule=rule, **changes)
        score[rule] = float((answers(stream, strategy, 1).argmax(-1) == stream.test(1).y).float().mean())
        weights = [event.weight[0] for event in events if isinstance(event, AuxiliaryWeighed)]
        assert np.mean(weights) < 0.2 if rule == "gate" else set(weights) == {1.0}
    assert score["gate"] > score["fixed"] + 0.2


def test_the_picture_of_weights_has_a_line_a_side_task_and_a_point_an_epoch(tiny: Tiny, tmp_path: Path):
    run = open_run(tiny("auxiliary", (0, 1)).run(tmp_path / "run"))
    figure = side_weights(run)
    assert figure is not None
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert {name: np.asarray(line.get_xdata()).tolist() for name, line in lines.items()} == {
        "rotation": [1, 2, 3, 4, 5, 6],
        "plain": [3, 4, 5, 6],  # the first task is no side task of itself
    }
    told = run.table("events").query("kind == 'AuxiliaryWeighed' and name == 'weight' and part == 'plain'")
    means = told.groupby("event")["value"].mean().tolist()
    np.testing.assert_allclose(np.asarray(lines["plain"].get_ydata(), float), means)
    assert side_weights(open_run(tiny("finetune", (0,)).run(tmp_path / "other"))) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"menu": []}, "strategy.menu names no side task, and strategy.rule = 'gate' weighs some"),
        (
            {"menu": ["rotatoin"]},
            r"no view named 'rotatoin' \(did you mean 'rotation'\?\).*; and no task of a stream with an end",
        ),
        ({"menu": ["parity"]}, "'parity' takes labels that a person gives, and no task of the stream is called so"),
        ({"menu": ["plain", "plain"]}, "name each side task once"),
        ({"rule": "gat"}, "no rule named 'gat'"),
        ({"rule": "GradVac"}, "no rule named 'GradVac'"),
        ({"rule": "FairGrad"}, "'FairGrad' cannot be made: .*alpha"),
        ({"main": ["plan"]}, r"strategy.main: no task named 'plan' \(did you mean 'plain'\?\)"),
        ({"main_head": ["flip"]}, "strategy.main_head: no side task named 'flip'"),
        ({"weight": [1.0]}, "strategy.weight: found 1 numbers for 2 side tasks"),
        ({"menu": ["autoencode"], "main_head": ["autoencode"]}, "'autoencode' is answered at places, and the net once"),
        ({"weight": -1.0}, "strategy.weight: found -1.0; numbers from 0 on are allowed"),
        (
            {"stream.source": "mnist1d", "menu": ["rotation"]},
            "strategy.menu: the view 'rotation' needs images; the inputs of the source have shape",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_first_step(
    changes: dict[str, Any], sentence: str, tiny: Tiny, tmp_path: Path
):
    if "rule" in changes:
        pytest.importorskip("torchjd", reason="the extra mtl is not installed")
    with pytest.raises(UsageError, match=sentence):
        tiny("auxiliary", **changes).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rule_of_torchjd_says_which_extra_it_needs_where_it_is_not_installed(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "torchjd", None)
    experiment = tiny("auxiliary", rule="UPGrad")
    with pytest.raises(
        UsageError, match=r"'UPGrad' is none of none, fixed, cosine, gate; .*pip install 'cl-engine\[mtl\]'"
    ):
        experiment.build_strategy(experiment.stream())


@pytest.mark.skipif(importlib.util.find_spec("torchjd") is None, reason="the extra mtl is not installed")
def test_a_weighting_of_torchjd_weighs_the_main_task_too_and_leaves_global_generators_alone(tiny: Tiny):
    before = torch.get_rng_state()
    _, _, events = walk(tiny("auxiliary", (0, 1), rule="PCGrad", **{"stream.n": 2}))
    weights = [weight for event in events if isinstance(event, AuxiliaryWeighed) for weight in event.weight]
    assert weights and all(np.isfinite(weights))
    assert torch.equal(before, torch.get_rng_state())
