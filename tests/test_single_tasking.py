"""Single-tasking: parts of a task's own in one net, an adversary that names tasks, the frozen form and the joint one."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.adapters.modulation import Modulation, Part
from cl_engine.analysis.plots import strategy_events
from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.errors import UsageError
from cl_engine.events import Event, Saved
from cl_engine.experiment import Experiment
from cl_engine.modules.adversary import (
    JudgeScored,
    direction,
    judge,
    named_by,
    reversal,
    reversed_gradient,
    with_adversary,
)
from cl_engine.nn.net import Net, Params
from cl_engine.results import open_run
from cl_engine.runs.plugins import net_builder
from cl_engine.strategies.single_tasking import SingleTasking
from cl_engine.testing import small
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.testing.strategies import Cut
from cl_engine.testing.walking import after_each_task, answers, walk
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob, RowsBeside
from cl_engine.training.optimizers import Train
from cl_engine.training.sampled_fit import TaskWeighed

Tiny = Callable[..., Experiment]
EVERY: list[Part] = ["norms", "se", "adapters"]
SHAPE = (3, 16, 16)
ROWS = torch.rand(4, *SHAPE, generator=rng.tensors(0, "rows"))


def net_of(name: str, **options: Any) -> Net:
    return Net(net_builder(name, options, SHAPE, 5), SHAPE)


def built(experiment: Experiment) -> SingleTasking:
    """Return the strategy of an experiment in its first state."""
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert isinstance(strategy, SingleTasking)
    strategy.check_stream(stream)
    strategy.state = strategy.start()
    return strategy


def one_of(params: Params) -> Params:
    return {name: tensor[0] for name, tensor in params.items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small_cnn", {"width": 8, "layers": 2}),
        ("unet", {"width": 4, "stages": 3}),
        ("deeplab", {"width": 4, "context": 8, "norm": "batch"}),
        ("mlp", {"hidden": [8, 8]}),
    ],
)
def test_adapters_at_zero_and_no_gates_answer_as_the_trunk_bit_for_bit(name: str, options: dict[str, Any]):
    net = net_of(name, **options)
    trunk = net.init([0])
    modulation = Modulation(net, ["norms", "adapters"], 16)
    own, norms = one_of(modulation.start([0], {})), modulation.norms.of(modulation.norms.start(1), 0, trunk)
    changed = {**one_of(trunk), **modulation.applied(one_of(trunk), own), **one_of(norms)}
    said = net.one(changed, ROWS, False, hooks=modulation.hooks(own))
    assert torch.equal(said, net.one(one_of(trunk), ROWS, False))
    assert modulation.adapted


def test_encoder_and_decoder_have_gates_after_their_norms_and_adapters_beside_larger_kernels():
    net = net_of("deeplab", width=4, context=8)
    modulation = Modulation(net, EVERY, 16)
    assert modulation.gated["encoder.blocks.0.conv1"] == "encoder.blocks.0.norm1"
    assert modulation.gated["mix.0"] == "mix.1"
    assert {"encoder.blocks.0.conv1", "context.1.0"} <= set(modulation.adapted)
    assert not {"encoder.blocks.1.shortcut.0", "context.0.0", "mix.0"} & set(modulation.adapted)


def test_a_task_keeps_as_many_numbers_of_a_convolution_as_published():
    def kept(channels: int, part: Part, norm: str = "group") -> tuple[int, int]:
        build = net_builder("small_cnn", {"width": channels, "layers": 2, "norm": norm}, (channels, 4, 4), 3)
        modulation = Modulation(Net(build, (channels, 4, 4)), [part], 16)
        return modulation.norms.layout.size // 2, modulation.layout.size // 2

    for channels in (8, 16, 40):
        inside = math.ceil(channels / 16)
        assert kept(channels, "norms") == (2 * channels, 0)
        assert kept(channels, "norms", "batch") == (4 * channels, 0)
        assert kept(channels, "adapters") == (0, channels**2)
        assert kept(channels, "se") == (0, 2 * channels * inside + inside + channels)


@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 5},
        {"kernel_size": 3, "padding": 4, "dilation": 4},
        {"kernel_size": 3, "padding": 1, "groups": 2},
    ],
)
def test_an_adapter_is_a_convolution_beside_that_reads_the_middle_of_each_kernel(how: dict[str, Any]):
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 6, **how), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))

    net = Net(build, (4, 12, 12))
    modulation, trunk = Modulation(net, ["adapters"], 16), one_of(net.init([0]))
    draw = rng.tensors(0, "adapter")
    own = {"0:adapter": torch.randn(modulation.layout.shapes["0:adapter"], generator=draw)}
    x = torch.rand(2, 4, 12, 12, generator=draw)
    plain = F.conv2d(
        x, trunk["0.weight"], trunk["0.bias"], **{name: how[name] for name in how if name != "kernel_size"}
    )
    cut = how.get("dilation", 1) * (how["kernel_size"] - 1) // 2 - how.get("padding", 0)
    middle = x[:, :, cut : 12 - cut, cut : 12 - cut]
    beside = F.conv2d(
        middle, own["0:adapter"][..., None, None], stride=how.get("stride", 1), groups=how.get("groups", 1)
    )
    both = F.conv2d(
        x,
        modulation.applied(trunk, own)["0.weight"],
        trunk["0.bias"],
        **{name: how[name] for name in how if name != "kernel_size"},
    )
    torch.testing.assert_close(both, plain + beside)


def test_gates_are_those_of_squeeze_and_excitation_for_maps_and_for_rows():
    for channels in ((6, 5, 5), (6,)):
        layer = nn.Conv2d(6, 6, 1) if len(channels) == 3 else nn.Linear(6, 6)
        ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if len(channels) == 3 else []
        net = Net(lambda layer=layer, ends=ends: nn.Sequential(layer, *ends, nn.Linear(6, 3)), channels)
        modulation = Modulation(net, ["se"], 2)
        own, noted = one_of(modulation.start([0], {})), dict[str, Tensor]()
        y = torch.rand(2, *channels, generator=rng.tensors(0, "maps"))
        hook = modulation.hooks(own, noted)["0"]
        mean = y.mean(dim=(2, 3)) if y.ndim == 4 else y
        inside = (mean @ own["0:squeeze"].T + own["0:squeeze_bias"]).relu()
        gate = (inside @ own["0:excite"].T + own["0:excite_bias"]).sigmoid()
        torch.testing.assert_close(noted.get("0", gate), gate)
        found = hook(layer, (y,), y)
        torch.testing.assert_close(found, y * gate.reshape(2, 6, *[1] * (y.ndim - 2)))
        assert own["0:squeeze"].shape == (3, 6)


def test_a_step_on_one_task_leaves_every_number_of_another_as_it_is_with_momentum_and_decay(tiny: Tiny):
    strategy = built(tiny("single_tasking", form="joint"))
    how, draw, seen = (
        Train(batch=5, momentum=0.9, weight_decay=0.1, epochs=2),
        rng.tensors(0, "rows"),
        list[dict[str, Tensor]](),
    )
    rows = [(torch.rand(n, 1, 8, 8, generator=draw), torch.arange(n) % 10) for n in (40, 1)]
    params = {"trunk": strategy.state["trunk"], **{str(task): strategy._own(task, True) for task in (0, 1)}}

    def watched(tree: Tree) -> None:
        parts: Tree = {**tree["1"]["modulation"], **tree["1"]["head"]}
        seen.append({name: tensor.clone() for name, tensor in parts.items()})

    job = FitJob(
        net=strategy.net,
        params=params,
        loss=strategy._loss_of(0),
        rows=rows[0],
        beside=[RowsBeside(rows[1], strategy._loss_of(1))],
        train=how,
        overrides={"0": how, "1": how},
        seeds=[0],
        step=0,
        task_id=0,
        project=watched,
    )
    for _ in fit(job):
        pass
    changed = [any(not torch.equal(one[name], two[name]) for name in one) for one, two in pairwise(seen)]
    assert sum(changed) == 2  # the one row of the other task comes once an epoch, in seventeen steps
    assert len(changed) == 17


def test_the_reversal_grows_along_the_published_curve_and_turns_gradients_around():
    found = reversal(torch.tensor([0.0, 0.5, 1.0])).tolist()
    assert found == pytest.approx([0.0, 0.986614, 0.999909], abs=1e-6)
    x = torch.tensor([1.5, -2.0], requires_grad=True)
    y = reversed_gradient(x, 0.7)
    assert torch.equal(y, x)
    (3 * y).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([-2.1, -2.1])


def test_the_adversary_is_told_directions_alone_and_its_share_of_the_loss_is_its_weight():
    params = one_of(judge([0], 4, 3, torch.device("cpu")))
    features = torch.rand(5, 4, 2, 2, generator=rng.tensors(0, "features"), requires_grad=True)
    loss = (features**3).sum()
    found = direction(loss, features)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5, 2, 2))
    torch.testing.assert_close(found, direction(100 * loss, features))
    said = named_by(params, found)
    assert said.shape == (20, 3)
    wrong = F.cross_entropy(said, torch.full((20,), 2))
    both = with_adversary(params, loss, features, 2, 0.1, 0.5)
    torch.testing.assert_close(both, 0.9 * loss + 0.1 * wrong)


def test_the_judge_is_told_about_with_chance_beside_and_lives_while_training_only(tiny: Tiny):
    walked = walk(tiny("single_tasking", form="joint", adversary=0.1, **{"stream.n": 2}))
    strategy, events = walked[1], list(walked[2])
    scored = [event for event in events if isinstance(event, JudgeScored)]
    assert [(event.step, event.task_id, event.tasks) for event in scored] == [(1, 0, 2), (1, 1, 2)]
    assert set(strategy.state) == {"trunk", "modulations", "heads", "data"}


def test_one_task_without_parts_is_trained_as_a_net_of_its_own_bit_for_bit(tiny: Tiny):
    said = []
    for strategy, options in (("single_tasking", {"form": "joint", "parts": []}), ("independent", {})):
        *_, (stream, learned) = after_each_task(tiny(strategy, **options, **{"stream.n": 1, "agenda.curve_batches": 0}))
        said.append(answers(stream, learned, 0))
    assert torch.equal(*said)


def test_a_step_of_plain_sgd_moves_a_head_as_that_of_a_net_of_its_own(tiny: Tiny):
    how = {"train.optimizer": "sgd", "train.lr": 0.1, "train.epochs": 1, "train.batch": 500, "stream.n": 2}
    heads = []
    for options in ({"wait_for": 2}, {"stream.n": 1}):
        *_, (_, learned) = after_each_task(tiny("single_tasking", form="joint", parts=[], **{**how, **options}))
        heads.append(learned.state["heads"][0])
    torch.testing.assert_close(*heads)


def test_joint_training_waits_for_its_tasks_and_answers_untrained_until_then(tiny: Tiny):
    experiment = tiny("single_tasking", form="joint", wait_for=2)
    untrained = built(experiment)
    fitted = []
    for stream, strategy in after_each_task(experiment):
        same = torch.equal(strategy.predict(stream.test(0).x, 0), untrained.predict(stream.test(0).x, 0))
        fitted.append((same, len(strategy.state["heads"])))
    assert fitted == [(True, 0), (False, 2), (False, 3)]


def test_joint_training_with_an_adversary_that_is_cut_in_the_middle_goes_on_to_the_same_log(tiny: Tiny, tmp_path: Path):
    own = {"agenda.save_every_epochs": 1, "stream.n": 2, "train.epochs": 3, "agenda.curve_batches": 0}
    experiment = tiny("single_tasking", form="joint", adversary=0.1, wait_for=2, **own)
    whole = facts(experiment.run(tmp_path / "whole", device="cpu") / "log.h5")
    saved = []

    def cutting(event: Event) -> None:
        saved.extend([event] * (isinstance(event, Saved) and event.midway))
        if len(saved) == 2:
            raise Cut

    with pytest.raises(Cut):
        experiment.run(tmp_path / "cut", device="cpu", listeners=lambda stream: [cutting])
    assert_same_facts(facts(experiment.run(tmp_path / "cut", device="cpu") / "log.h5"), whole)


@pytest.mark.parametrize("backbone", ["initial", "first_task"])
def test_the_frozen_form_answers_earlier_tasks_bit_for_bit_as_before(tiny: Tiny, backbone: str):
    before: list[Tensor] = []
    own = {"net.name": f"{small.__name__}:with_batchnorm", "net.hidden": 8, "backbone": backbone}
    for stream, strategy in after_each_task(tiny("single_tasking", **own)):
        said = [answers(stream, strategy, task) for task in range(len(before) + 1)]
        assert all(torch.equal(*pair) for pair in zip(before, said, strict=False))
        before = said
    assert len(before) == 3


def test_the_first_task_is_answered_with_the_parts_that_it_was_trained_with(tiny: Tiny):
    own = {"train.epochs": 30, "stream.n": 1, "stream.samples_per_class": 30, "backbone": "first_task"}
    for parts in ([], ["adapters"]):
        *_, (stream, strategy) = after_each_task(tiny("single_tasking", parts=parts, **own))
        test = stream.test(0)
        assert float((strategy.predict(test.x, 0)[0].argmax(dim=1) == test.y).double().mean()) > 0.6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adversary": 0.01}, "strategy.adversary: found 0.01, and form = 'frozen' trains each task by itself"),
        ({"wait_for": 2}, "strategy.wait_for: found 2, and form = 'frozen'"),
        ({"form": "joint", "wait_for": 4}, "strategy.wait_for: found 4, and the stream has 3 tasks"),
        ({"parts": ["norms"]}, "strategy.parts: found norms, and the net has no normalisation layer"),
        ({"net.hidden": []}, "strategy.parts: found norms, se, adapters, and the net has no layer before its head"),
    ],
)
def test_what_cannot_be_modulated_or_judged_is_refused_in_a_sentence(tiny: Tiny, options: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        built(tiny("single_tasking", **options))


def test_tasks_trained_together_are_practised_as_sampling_says(tiny: Tiny):
    options = {"stream.validation": 0.3, "train.epochs": 3, "form": "joint", "parts": ["se"], "sampling": "loss"}
    _, _, events = walk(tiny("single_tasking", (0, 1), **options))
    told = [event for event in events if isinstance(event, TaskWeighed) and event.step == 2]
    for epoch in range(3):
        shares = torch.tensor([event.weight for event in told if event.epoch == epoch])
        assert shares.shape == (3, 2)
        torch.testing.assert_close(shares.sum(dim=0), torch.ones(2))
    assert {event.weight for event in told if event.epoch == 0} == {told[0].weight}
    assert len({event.weight for event in told if event.epoch == 2}) == 3
    with pytest.raises(UsageError, match="trains each task by itself"):
        built(tiny("single_tasking", sampling="classes"))


def test_gates_of_every_layer_and_task_are_drawn_and_adapters_where_there_are_none(tiny: Tiny, tmp_path: Path):
    for number, (parts, title) in enumerate({("se",): "gates by task", ("adapters",): "adapters by task"}.items()):
        run = open_run(tiny("single_tasking", parts=list(parts)).run(tmp_path / str(number), device="cpu"))
        fig = strategy_events.modulation(run)
        assert fig is not None
        axes = fig.axes[0]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "3", "5"]
        assert title in axes.get_title(loc="left")
    assert strategy_events.modulation(open_run(tiny("finetune").run(tmp_path / "other", device="cpu"))) is None
