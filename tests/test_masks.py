"""The family that keeps one network and adds masks, gates or patches: what each member promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cl_engine.adapters.patches import PatchParts
from cl_engine.core.bank import Bank
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import Event, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.masks import guard
from cl_engine.masks.events import GatesUsed, LayerMask, MaskOverlap, MaskRate, TaskInferred, WeightsOwned
from cl_engine.masks.gates import Gates
from cl_engine.masks.layout import Layout, maskable
from cl_engine.masks.norms import TaskNorms, norm_after
from cl_engine.masks.store import MaskStore
from cl_engine.masks.superposition import inferred
from cl_engine.masks.thresholds import HARD, straight_through, top_share
from cl_engine.nets.lenet import Lenet
from cl_engine.nets.mlp import Mlp
from cl_engine.nets.resnet18 import Resnet18
from cl_engine.nn.head import HEAD_BIAS
from cl_engine.nn.net import Net
from cl_engine.runs.plugins import net_builder
from cl_engine.runs.scenario import Scenario
from cl_engine.strategies import supsup
from cl_engine.strategies.supsup import SupSup
from cl_engine.testing.small import scenario
from cl_engine.training.optimizers import Train
from cl_engine.training.pretraining import Backbone

Tiny = Callable[..., Experiment]
NORMED = {"net.norm": "batch"}
POLICIES = ("frozen", "statistics", "affine")
FROZEN: list[tuple[str, dict[str, Any]]] = [
    *(("piggyback", {"norm": policy}) for policy in POLICIES),
    ("piggyback", {"mask": "ternary", "backbone": "first_task"}),
    ("piggyback", {"mask": "ternary_symmetric", "init": "uniform", "rescale": "mean"}),
    *(("packnet", {"norm": policy}) for policy in POLICIES),
    *(("supsup", {"norm": policy}) for policy in POLICIES),
    ("supsup", {"heads": "trained"}),
    ("patch", {}),
    ("patch", {"backbone": "first_task"}),
]


@pytest.fixture
def tiny(tiny: Tiny) -> Tiny:
    """Return what makes the tiny experiment, on a net of one hidden layer unless another is asked for."""

    def make(strategy: str, *seeds: Any, **overrides: Any) -> Experiment:
        one_layer = {} if "net.name" in overrides else {"net.hidden": [12]}
        return tiny(strategy, *seeds, **{**one_layer, **overrides})

    return make


def net_of(architecture: Any, shape: tuple[int, ...], outputs: int = 4) -> Net:
    return Net(lambda: architecture.build(shape, outputs), shape)


def mlp(**options: Any) -> Net:
    built = Mlp()
    built.configure({"hidden": [6, 5], **options})
    return net_of(built, (1, 4, 4))


def learned(experiment: Experiment) -> Iterator[tuple[Event, Stream, Any]]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        yield event, stream, strategy


def last(experiment: Experiment) -> Any:
    *_, (_, _, strategy) = learned(experiment)
    return strategy


# what they are made of


@given(st.integers(1, 3), st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms())
def test_packed_bits_come_back_and_take_an_eighth_of_a_byte_each(seeds: int, sizes: list[int], draw: Any):
    layout = Layout({f"part {k}": (size, 3) for k, size in enumerate(sizes)})
    bits = {
        name: torch.tensor([draw.random() < 0.5 for _ in range(seeds * math.prod(shape))]).reshape(seeds, *shape)
        for name, shape in layout.shapes.items()
    }
    packed = layout.pack(bits)
    assert packed.shape == (seeds, math.ceil(3 * sum(sizes) / 8))
    assert packed.dtype == torch.uint8
    assert all(torch.equal(found, bits[name]) for name, found in layout.unpack(packed).items())


@pytest.mark.parametrize("kind", HARD)
def test_masks_of_every_kind_come_back_from_the_store(kind: str):
    scores = {"a": torch.linspace(-0.02, 0.02, 24).reshape(2, 3, 4)}
    masks = {"a": HARD[kind](scores["a"], 0.005)}  # type: ignore[index]
    store = MaskStore(Layout({"a": (3, 4)}), signed=kind != "binary")
    bank = store.empty(2, torch.device("cpu"))
    store.put(bank, 0, masks)
    assert torch.equal(store.of(bank, 0)["a"], masks["a"])
    assert bank.rows.numel() == 2 * math.ceil(12 / 8) * (1 if kind == "binary" else 2)
    assert store.of(bank, 1)["a"].eq(1).all()


def test_thresholds_are_those_published():
    scores = torch.tensor([-0.01, -0.001, 0.0, 0.004, 0.006])
    assert HARD["binary"](scores, 0.005).tolist() == [0, 0, 0, 0, 1]
    assert HARD["ternary"](scores, 0.005).tolist() == [-1, -1, 0, 0, 1]
    assert HARD["ternary_symmetric"](scores, 0.005).tolist() == [-1, 0, 0, 0, 1]


def test_the_gradient_of_a_score_is_that_of_the_masked_weight_times_the_weight():
    weight, score = torch.tensor([2.0, -3.0, 0.5]), torch.tensor([0.01, 0.0, 0.02], requires_grad=True)
    masked = weight * straight_through(HARD["binary"](score, 0.005).detach(), score)
    assert masked.tolist() == [2.0, 0.0, 0.5]
    (masked * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert score.grad is not None
    assert score.grad.tolist() == [2.0, -30.0, 50.0]


@given(st.floats(0.01, 1.0), st.integers(1, 40))
def test_the_greatest_scores_stay_and_as_many_as_asked_for(share: float, count: int):
    score = torch.randperm(count, generator=torch.Generator().manual_seed(count)).float()
    kept = top_share(score, share)
    assert kept.sum() == max(1, round(share * count))
    assert score[kept == 1].min() >= score[kept == 0].max() if 0 < kept.sum() < count else True


def test_weights_of_linear_and_convolution_layers_are_masked_and_nothing_else():
    assert maskable(mlp(norm="layer")) == ["1.weight", "4.weight"]
    names = maskable(net_of(Resnet18(), (3, 16, 16)))
    assert len(names) == 20
    assert all("norm" not in name and "head" not in name for name in names)


def test_what_a_task_keeps_of_normalisation_follows_the_policy():
    net = mlp(norm="batch")
    sizes = [TaskNorms(net, policy).layout.size for policy in POLICIES]  # type: ignore[arg-type]
    assert sizes == [0, 2 * (6 + 5), 4 * (6 + 5)]
    assert norm_after(net, ["1", "4"]) == {"1": "2", "4": "5"}
    assert TaskNorms(mlp(norm="layer"), "affine").layout.size == 2 * (6 + 5)


def test_a_backbone_that_is_changed_is_noticed():
    tree = {"weights": torch.ones(3)}
    with pytest.raises(RunFailed, match="must not change"), guard.frozen(tree, "the backbone"):
        tree["weights"][1] = 1.0000001


# what all of them promise


@pytest.mark.parametrize(("name", "options"), FROZEN)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_earlier_tasks_are_answered_bit_for_bit_as_before(tiny: Tiny, name: str, options: dict[str, Any], norm: str):
    first: dict[int, torch.Tensor] = {}
    for event, stream, strategy in learned(tiny(name, **options, **{"net.norm": norm})):
        if isinstance(event, TaskLearned):
            for task in range(event.task_id + 1):
                logits = strategy.predict(stream.test(task).x, task)
                assert torch.equal(first.setdefault(task, logits), logits)
    assert len(first) == 3


@pytest.mark.parametrize(("name", "options"), [*FROZEN, ("hat", {})])
def test_they_run_on_convolutions_with_normalisation(tiny: Tiny, name: str, options: dict[str, Any]):
    net = {"net.name": "cl_engine.testing.small:with_batchnorm", "net.hidden": 4}
    assert last(tiny(name, (0,), **options, **net, **{"stream.n": 2})) is not None


@pytest.mark.parametrize("name", ["piggyback", "supsup", "patch"])
def test_what_a_task_brings_about_does_not_depend_on_the_order_of_tasks(tiny: Tiny, name: str):
    order = [2, 0, 1]
    straight, shuffled = last(tiny(name)), last(tiny(name, **{"stream.task_order": order}))
    for part, bank in straight.state.items():
        if isinstance(bank, Bank):
            for place, kind in enumerate(order):
                assert torch.equal(bank[kind], shuffled.state[part][place])


@pytest.mark.parametrize("name", ["piggyback", "packnet", "hat"])
def test_a_net_without_hidden_layers_is_refused_in_a_sentence(tiny: Tiny, name: str):
    with pytest.raises(UsageError, match=f"{name}: the net has no linear or convolution layer before its head"):
        last(tiny(name, **{"net.hidden": []}))


@pytest.mark.parametrize(("name", "options"), FROZEN)
def test_a_task_that_comes_back_leaves_the_others_as_they_are(tiny: Tiny, name: str, options: dict[str, Any]):
    answers: dict[int, torch.Tensor] = {}
    for event, stream, strategy in learned(tiny(name, **options, **NORMED, **{"stream.revisit": [1]})):
        if isinstance(event, TaskLearned):
            for task in (0, 2):
                if task <= event.task_id or event.step == 3:
                    logits = strategy.predict(stream.test(task).x, task)
                    assert torch.equal(answers.setdefault(task, logits), logits)
    assert len(answers) == 2


# Piggyback


def test_memory_is_a_bit_a_weight_and_a_head_for_every_task_and_the_random_backbone_stands_apart(tiny: Tiny):
    for event, _, strategy in learned(tiny("piggyback")):
        if isinstance(event, TaskLearned):
            net, tasks = strategy.net, event.task_id + 1
            weights = sum(math.prod(net.shapes[name]) for name in maskable(net))
            head = net.outputs * (net.width + 1)
            assert event.memory == {
                "masks": tasks * math.ceil(weights / 8),
                "heads": 4 * tasks * head,
            }
            assert event.apart == {"backbone": 4 * net.parameters}


def test_per_task_normalisation_is_counted(tiny: Tiny):
    [event] = [e for e, _, _ in learned(tiny("piggyback", norm="affine", **NORMED)) if isinstance(e, TaskLearned)][-1:]
    assert event.memory["norms"] == 3 * 4 * 4 * 12


def test_too_few_steps_to_flip_a_bit_are_refused_also_when_the_rate_falls(tiny: Tiny):
    published = {"mask_lr": 1e-4, "train.epochs": 17, "train.batch": 20}  # 3 batches an epoch: 51 steps
    assert last(tiny("piggyback", (0,), **published, **{"stream.n": 1})) is not None
    with pytest.raises(UsageError, match="no mask bit can flip in the 48 steps of an experience, it takes 50"):
        last(tiny("piggyback", **{**published, "train.epochs": 16}))
    with pytest.raises(UsageError, match="no mask bit can flip"):
        last(tiny("piggyback", **published, **{"train.milestones": [5]}))


def test_left_to_itself_the_rate_of_scores_is_as_published_where_steps_suffice_and_grows_where_there_are_few(
    tiny: Tiny,
):
    def rate(**options: Any) -> MaskRate:
        events = (
            event for event, _, _ in learned(tiny("piggyback", (0,), mask_lr="auto", **options, **{"stream.n": 1}))
        )
        return next(event for event in events if isinstance(event, MaskRate))

    few, fewer, falling = rate(), rate(**{"train.epochs": 1}), rate(**{"train.milestones": [1]})
    assert (few.steps, fewer.steps) == (6, 3)
    assert few.rate * 6 == pytest.approx(20 * 0.005)  # twenty times the way from a score's start to the threshold
    assert (fewer.rate, falling.rate) == (pytest.approx(2 * few.rate), pytest.approx(few.rate * 2 / 1.1))
    strategy, stream = tiny("piggyback").build_strategy(tiny("piggyback").stream()), tiny("piggyback").stream()
    strategy.configure({})
    strategy.train = strategy.train.model_copy(update={"epochs": 400})
    assert strategy.mask_lr == "auto"
    assert strategy._mask_train(stream[0]).lr == 1e-4


def test_a_mask_and_its_overlap_with_others_are_told_layer_by_layer(tiny: Tiny, tmp_path: Path):
    events = [event for event, _, _ in learned(tiny("piggyback", overlaps=1))]
    layers = [event for event in events if isinstance(event, LayerMask)]
    assert [event.part for event in layers] == ["1.weight"] * 3
    assert all(0 < share < 1 for event in layers for share in (*event.flipped, *event.zeroed))
    overlaps = [event for event in events if isinstance(event, MaskOverlap)]
    assert [(event.task_id, event.other) for event in overlaps] == [(1, 0), (2, 1)]
    assert all(0 < jaccard < 1 for event in overlaps for jaccard in event.jaccard)
    with h5py.File(tiny("piggyback").run(tmp_path) / "log.h5") as log:
        assert {"1.weight", ""} == set(log["events/part"].asstr()[:])


# PackNet


def test_tasks_take_free_weights_and_give_back_the_smallest(tiny: Tiny):
    events = [e for e, _, _ in learned(tiny("packnet", prune=[0.5, 0.75])) if isinstance(e, WeightsOwned)]
    owned = [event.owned[0] for event in events]
    free = [event.free[0] for event in events]
    size = 64 * 12
    assert [round(share * size) for share in owned] == [384, 96, 72]
    assert [round(share * size) for share in free] == [384, 288, 216]


@pytest.mark.parametrize(("tasks", "bits"), [(1, 1), (3, 2), (4, 3)])
def test_owners_take_as_many_bits_as_the_number_of_tasks(tiny: Tiny, tasks: int, bits: int):
    strategy = last(tiny("packnet", (0,), prune=0.5, **{"stream.n": tasks}))
    assert len(strategy.state["owners"]) == bits
    assert strategy._owners()["1.weight"].unique().tolist() == list(range(tasks + 1))


def test_without_free_weights_a_task_learns_its_head(tiny: Tiny):
    strategy = last(tiny("packnet", (0,), prune=0.0))
    assert strategy._owners()["1.weight"].unique().tolist() == [1]
    assert len(strategy.state["heads"]) == 3


def test_shares_to_prune_must_be_shares(tiny: Tiny):
    with pytest.raises(UsageError, match="packnet: prune must be shares"):
        last(tiny("packnet", prune=[0.5, 1.0]))


def test_left_to_itself_every_task_ends_with_as_many_weights_where_their_number_is_known(tiny: Tiny):
    events = [
        e for e, _, _ in learned(tiny("packnet", (0,), **{"net.hidden": [12, 12]})) if isinstance(e, WeightsOwned)
    ]
    assert [round(event.owned[0] * 64 * 12) for event in events if event.part == "1.weight"] == [256, 256, 256]
    assert events[-1].free == (0.0,)
    endless = tiny("packnet", (0,), **{"stream.n": None}).build_strategy(tiny("packnet").stream())
    assert [endless._share(owner) for owner in (1, 2, 3)] == [0.5, 0.75, 0.75]


def with_backbone(experiment: Experiment) -> Iterator[tuple[Event, Stream, Any]]:
    stream = experiment.stream()
    net = experiment.build_strategy(stream).net
    backbone = Backbone({name: tensor[0] for name, tensor in net.init([77]).items()})
    strategy = experiment.build_strategy(stream, backbone)
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        yield event, stream, strategy


@pytest.mark.parametrize("norm", POLICIES)
def test_packnet_prunes_and_keeps_a_backbone_as_the_task_before_the_first(tiny: Tiny, norm: str):
    options = {"prune": [0.5, 0.75], "norm": norm, **NORMED}
    *_, (_, _, strategy) = with_backbone(tiny("packnet", **options))
    net = strategy.net.init(strategy.seeds)
    owners = strategy._owners()["1.weight"]
    size = 64 * 12
    assert [int((owners[0] == owner).sum()) for owner in range(5)] == [162, 384, 96, 72, 54]
    first = owners == 1
    assert torch.equal(strategy.state["net"]["1.weight"][first], net["1.weight"][first])
    assert net["1.weight"][first].abs().min() >= net["1.weight"][~first].abs().max()
    assert first.sum() == size
    assert torch.equal(strategy.state["net"]["1.bias"], net["1.bias"])


def test_packnet_may_begin_with_a_backbone_and_overwrite_it(tiny: Tiny):
    *_, (_, _, strategy) = with_backbone(tiny("packnet", (0,), prune=[0.5, 0.75], backbone="overwritten"))
    assert [int((strategy._owners()["1.weight"] == owner).sum()) for owner in range(4)] == [216, 384, 96, 72]
    assert not torch.equal(strategy.state["net"]["1.bias"], strategy.net.init([0])["1.bias"])


def test_with_a_backbone_packnets_earlier_tasks_are_answered_bit_for_bit_as_before(tiny: Tiny):
    first: dict[int, torch.Tensor] = {}
    for event, stream, strategy in with_backbone(tiny("packnet", (0,))):
        if isinstance(event, TaskLearned):
            for task in range(event.task_id + 1):
                logits = strategy.predict(stream.test(task).x, task)
                assert torch.equal(first.setdefault(task, logits), logits)


# SupSup


@pytest.mark.parametrize(("biases", "rest"), [("none", 0), ("initial", 12)])
def test_the_random_network_takes_a_bit_a_weight(tiny: Tiny, biases: str, rest: int):
    for event, _, strategy in learned(tiny("supsup", density=0.25, biases=biases)):
        if isinstance(event, TaskLearned):
            weights = 64 * 12 + 12 * 10
            assert event.apart == {"backbone": weights // 8 + 2 * 4 + rest * 4}
            assert "backbone" not in event.memory
            assert event.memory["masks"] == (event.task_id + 1) * weights // 8
            masks = strategy._store.of(strategy.state["masks"], event.task_id)
            assert {name: int(mask[0].sum()) for name, mask in masks.items()} == {"1.weight": 192, "head.weight": 30}
            assert strategy._net(0)[HEAD_BIAS].eq(0).all()


def test_the_released_net_has_the_published_densities_and_magnitudes_and_no_biases():
    net = net_of(Resnet18(), (3, 32, 32), outputs=5)
    strategy = SupSup(net, erdos_renyi=16, scale="fan_in", biases="none")
    # min(½, 16 · (inputs + outputs) / weights) and √(2 / (inputs · kernel)), by hand
    published = {
        "stem.0.weight": (0.5, 540, 27),
        "blocks.0.conv1.weight": (16 * 40 / 3600, 3600, 180),
        "blocks.2.conv1.weight": (16 * 60 / 7200, 7200, 180),
        "blocks.2.shortcut.0.weight": (0.5, 800, 20),
        "blocks.3.conv2.weight": (16 * 80 / 14400, 14400, 360),
        "blocks.4.conv1.weight": (16 * 120 / 28800, 28800, 360),
        "blocks.5.conv1.weight": (16 * 160 / 57600, 57600, 720),
        "blocks.6.conv1.weight": (16 * 240 / 115200, 115200, 720),
        "blocks.6.shortcut.0.weight": (0.3, 12800, 80),
        "blocks.7.conv2.weight": (16 * 320 / 230400, 230400, 1440),
        "head.weight": (0.5, 800, 160),
    }
    state = strategy.start()
    magnitudes = dict(zip(strategy._store.layout.shapes, state["backbone"]["scales"][0].tolist(), strict=True))
    scores = {name: torch.rand(1, *shape) for name, shape in strategy._store.layout.shapes.items()}
    kept = strategy._hard(scores)
    for name, (density, weights, fan_in) in published.items():
        assert strategy._densities[name] == pytest.approx(density)
        assert (kept[name].numel(), int(kept[name].sum())) == (weights, round(density * weights))
        assert magnitudes[name] == pytest.approx(math.sqrt(2 / fan_in))
    assert len(magnitudes) == 21
    assert all("norm" in name or ".1." in name for name in state["backbone"]["rest"])  # what is left is BatchNorm's


def test_the_magnitude_may_follow_the_weights_that_the_mask_keeps_layer_by_layer():
    strategy = SupSup(mlp(), erdos_renyi=1.5, scale="kept_fan_in")
    shapes, found = strategy._store.layout.shapes, strategy._magnitudes
    assert strategy._densities["1.weight"] == pytest.approx(1.5 * (6 + 16) / 96)
    assert found == [pytest.approx(math.sqrt(2 / (s[1] * strategy._densities[n]))) for n, s in shapes.items()]


def test_the_network_is_random_whatever_the_backbone_unless_asked_otherwise():
    build, shape = net_builder("mlp", {"hidden": [6]}, (1, 4, 4), 4), (1, 4, 4)
    plain = Net(build, shape)
    taught = {name: tensor[0].abs() for name, tensor in plain.init([0]).items() if "head" not in name}
    net = Net(build, shape, pretrained=taught)
    signs = {network: SupSup(net, network=network).start()["backbone"]["signs"] for network in ("random", "backbone")}
    assert torch.equal(signs["random"], SupSup(plain).start()["backbone"]["signs"])
    assert int(signs["backbone"][0, 0]) == 255
    assert int(signs["random"][0, 0]) != 255


def test_scores_follow_the_scenarios_schedule_and_have_a_decay_of_their_own():
    strategy = SupSup(mlp(), train=Train(schedule="cosine", weight_decay=0.5), mask_decay=1e-4, mask_lr=0.02)
    strategy.state, given = strategy.start(), {}

    def fit(*_: Any, **options: Any) -> Iterator[Event]:
        given.update(options["overrides"])
        raise StopIteration

    strategy.fit = fit  # type: ignore[method-assign,assignment]
    rows = Data(torch.zeros(4, 1, 4, 4), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(strategy.learn(Experience(step=0, task_id=0, train=rows, validation=rows, classes=4)))
    how = given["scores"]
    assert (how.schedule, how.weight_decay, how.lr, how.optimizer) == ("cosine", 1e-4, 0.02, "adam")


def test_the_scenario_of_split_cifar100_is_as_released():
    options = Experiment.of("supsup_split_cifar100", "supsup").resolved
    released = {
        "erdos_renyi": 16.0,
        "scale": "fan_in",
        "biases": "none",
        "heads": "masked",
        "norm": "statistics",
        "mask_lr": 1e-3,
        "mask_optimizer": "adam",
        "mask_decay": 1e-4,
    }
    assert options["strategy"].items() >= released.items()
    trained = {"schedule": "cosine", "epochs": 250, "batch": 128, "crop": 4, "flip": 0.5}
    assert options["train"].items() >= trained.items()
    assert (options["net"]["name"], options["net"]["width"], options["net"]["norm"]) == ("resnet18", 20, "batch")


def test_inference_is_tried_on_rows_of_all_classes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supsup, "TRIED", 10)
    tried: list[torch.Tensor] = []
    ask = SupSup._inferred
    monkeypatch.setattr(SupSup, "_inferred", lambda self, x: (tried.append(x), ask(self, x))[1])
    options = {"stream.setting": "domain", "stream.n": 1, "agenda.evaluate_ahead": 0}
    *_, (_, stream, _) = learned(tiny("supsup", (0,), **options))
    train = stream[0].train
    classes = [int(train.y[(train.x == row).flatten(1).all(dim=1)][0]) for row in tried[0]]
    assert sorted(classes) == list(range(10)) != classes


def test_rows_that_decide_together_are_an_order_that_matters(tiny: Tiny):
    for setting, rows, matters in (("domain", 2, True), ("domain", 1, False), ("task", 2, False)):
        experiment = tiny("supsup", (0,), infer_rows=rows, **{"stream.setting": setting})
        assert experiment.build_strategy(experiment.stream()).order_matters is matters


def test_the_task_is_inferred_as_the_one_whose_weight_lowers_the_entropy():
    # two tasks over one linear layer: the inputs of task 0 are answered by the first weights alone
    weights = [{"w": torch.tensor([[8.0, 0.0], [-8.0, 0.0]])}, {"w": torch.tensor([[0.0, 8.0], [0.0, -8.0]])}]
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.05]]) / 8
    answer = lambda params, rows: rows @ params["w"].T  # noqa: E731
    assert inferred(answer, weights.__getitem__, [0, 1], x, 1).tolist() == [0, 0, 1, 1, 0]
    assert inferred(answer, weights.__getitem__, [0, 1], x, 2).tolist() == [0, 0, 1, 1, 0]
    assert inferred(answer, weights.__getitem__, [0, 1], x, 5).unique().numel() == 1


def test_the_task_is_found_more_often_when_more_rows_decide(tiny: Tiny):
    options = {"stream.setting": "domain", "stream.samples_per_class": 60, "train.epochs": 6, "net.hidden": [64]}
    right = []
    for rows in (1, 20):
        events = [e for e, _, _ in learned(tiny("supsup", (0,), infer_rows=rows, **options))]
        right.append([e.right[0] for e in events if isinstance(e, TaskInferred)][-1])
    assert right[0] > 0.5  # of three tasks
    assert right[1] >= right[0]


# HAT


def test_gates_know_what_a_layer_reads():
    chain = Gates.of(mlp(norm="batch"), (1, 4, 4))
    assert chain.reads == {"1": None, "4": "1"}
    assert chain.places == {"1": "2", "4": "5"}
    lenet = Gates.of(net_of(Lenet(), (1, 28, 28)), (1, 28, 28))
    assert list(lenet.reads.values()) == [None, *list(lenet.reads)[:-1]]
    summing = Gates.of(net_of(Resnet18(), (3, 16, 16)), (3, 16, 16))
    assert summing.reads["blocks.0.conv2"] == "blocks.0.conv1"
    assert summing.reads["blocks.1.conv1"] is None


def test_weights_between_used_units_are_shut_and_others_open():
    gates = Gates.of(mlp(), (1, 4, 4))
    used = {"1": torch.tensor([1.0, 0.5, 0, 0, 0, 0]), "3": torch.tensor([1.0, 0, 0, 0, 0.25])}
    assert gates.layers == list(used)
    free = gates.open(used, "3.weight", torch.zeros(5, 6))
    assert free[0].tolist() == [0, 0.5, 1, 1, 1, 1]
    assert free[4].tolist() == [0.75, 0.75, 1, 1, 1, 1]
    assert gates.open(used, "3.bias", torch.zeros(5)).tolist() == [0, 1, 1, 1, 0.75]
    assert gates.open(used, "1.weight", torch.zeros(6, 16))[:2, 0].tolist() == [0, 0.5]


def test_gates_know_which_input_reads_which_unit_under_concatenated_relus_and_refuse_sigmoids():
    lenet = Lenet()
    lenet.configure({"activation": "crelu"})
    gates = Gates.of(net_of(lenet, (1, 28, 28)), (1, 28, 28))
    used = {layer: torch.zeros(count) for layer, count in gates.units.items()}
    conv, linear = gates.layers[1], gates.layers[2]
    used[conv][2], used[linear][0] = 1.0, 1.0
    free = gates.open(used, f"{linear}.weight", torch.zeros(gates.units[linear], 2 * 16 * gates.units[conv]))
    shut = (free[0] == 0).reshape(2, gates.units[conv], 16).all(dim=2)  # positive parts, then negative ones
    assert shut.nonzero().tolist() == [[0, 2], [1, 2]]
    with pytest.raises(UsageError, match="choose an activation that gives 0 for 0"):
        Gates.of(mlp(activation="sigmoid"), (1, 4, 4))


@pytest.mark.parametrize("name", ["hat", "packnet", "piggyback", "mntdp"])
def test_convolutions_with_layer_norm_and_concatenated_relus_learn_task_by_task(name: str):
    net = {"name": "small_cnn", "norm": "layer", "width": 6, "layers": 2, "activation": "crelu"}
    tables = {**scenario().tables, "net": net}
    tables["stream"] = {**tables["stream"], "n": 2, "validation": 0.25}
    answers: dict[int, torch.Tensor] = {}
    for event, stream, strategy in learned(Experiment.of(Scenario.of("normed", tables), name, (0,))):
        if isinstance(event, TaskLearned):
            x = stream[0].train.x[:10]
            answers[event.step] = strategy.predict(x, 0).clone()
    assert answers[0].isfinite().all()
    if name != "hat":  # whose gates shut weights up to a share
        torch.testing.assert_close(answers[0], answers[1])


def gradient_of_gates(tiny: Tiny, kind: str, s: float, embedding: torch.Tensor) -> torch.Tensor:
    strategy = tiny("hat", gradient=kind).build_strategy(tiny("hat").stream())
    ours = embedding.clone().requires_grad_(True)
    gate = strategy._gate(ours, torch.tensor(s, dtype=embedding.dtype))
    assert torch.equal(gate, torch.sigmoid(s * embedding))
    gate.sum().backward()
    assert ours.grad is not None
    return ours.grad


@pytest.mark.parametrize("kind", ["exact", "released"])
def test_the_gradient_of_an_embedding_is_compensated_as_published(tiny: Tiny, kind: str):
    e, s, most = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64), 3.0, 400.0
    plain = e.clone().requires_grad_(True)
    torch.sigmoid(s * plain).sum().backward()
    assert plain.grad is not None
    published = plain.grad * most / s * (torch.cosh(s * e) + 1) / (torch.cosh(e) + 1)
    torch.testing.assert_close(gradient_of_gates(tiny, kind, s, e), published)


def test_saturated_gates_have_no_gradient_as_released_and_their_own_by_the_exact_formula(tiny: Tiny):
    e = torch.tensor([1.0, 0.1, -0.5])
    assert gradient_of_gates(tiny, "released", 400.0, e).tolist() == [0.0, 0.0, 0.0]
    exact = gradient_of_gates(tiny, "exact", 400.0, e)
    assert exact.tolist() == pytest.approx([78.6, 99.8, 94.0], abs=0.05)


SGD = {"train.optimizer": "sgd", "train.lr": 0.05, "train.epochs": 10, "stream.samples_per_class": 40}


def test_at_the_published_penalty_hat_keeps_units_open_for_its_tasks(tiny: Tiny):
    opened = {}
    for kind in ("released", "exact"):
        told = [e for e, _, _ in learned(tiny("hat", (0,), gradient=kind, **SGD, **{"stream.n": 2}))]
        opened[kind] = [event.open[0] for event in told if isinstance(event, GatesUsed)]
    assert opened["exact"] == [0.0, 0.0]
    assert min(opened["released"]) > 0.1


def test_hat_may_keep_the_epoch_of_least_validation_loss_and_let_the_rate_follow_it(tiny: Tiny):
    losses: dict[str, torch.Tensor] = {}
    options = {**SGD, "train.lr": 1.0, "sparsity": 0.1, "stream.n": 1, "stream.validation": 0.3}
    for name, own in (("last", {}), ("best", {"keep_best": True}), ("patient", {"keep_best": True, "lr_patience": 1})):
        *_, (_, stream, strategy) = learned(tiny("hat", **options, **own))
        rows = stream[0].validation
        losses[name] = torch.nn.functional.cross_entropy(strategy.predict(rows.x, 0).flatten(0, 1), rows.y.repeat(2))
    assert losses["patient"] < losses["best"] < losses["last"]
    with pytest.raises(
        UsageError, match=r"hat: lr_patience and keep_best .* set stream\.validation, or leave them out"
    ):
        last(tiny("hat", keep_best=True))


def test_the_slope_of_the_gates_grows_within_an_epoch(tiny: Tiny):
    strategy = tiny("hat").build_strategy(tiny("hat").stream())
    assert strategy._slope(0, 0, 5) == (1 / 400,)
    assert strategy._slope(3, 4, 5) == (400.0,)


def test_units_in_use_only_grow_and_used_weights_stay(tiny: Tiny):
    used: list[float] = []
    before: torch.Tensor | None = None
    options = {"train.optimizer": "sgd", "train.lr": 0.05}
    for event, _, strategy in learned(tiny("hat", (0,), **options)):
        if isinstance(event, GatesUsed):
            used.append(event.used[0])
        if isinstance(event, TaskLearned):
            weight = strategy.state["net"]["1.weight"][0]
            shut = strategy._gates.named(strategy._used(without=event.task_id)[0])["1"] == 1
            if before is not None:
                assert shut.any()
                assert torch.equal(weight[shut], before[shut])
                assert not torch.equal(weight, before)
            before = weight.clone()
    assert used == sorted(used)


# patches


def test_a_patch_that_changes_nothing_leaves_every_answer_as_it_is():
    net, x = mlp(), torch.rand(7, 1, 4, 4)
    parts, params = PatchParts(net, "scale_bias"), net.init([0, 1])
    patched = {**params, **parts.applied(params, parts.start([0, 1], params))}
    assert torch.equal(net.all(patched, x), net.all(params, x))


def test_a_patch_is_a_few_numbers_a_unit(tiny: Tiny):
    for norm, part, numbers in (("batch", "norms", 4), ("none", "patches", 2)):
        [event] = [e for e, _, _ in learned(tiny("patch", **{"net.norm": norm})) if isinstance(e, TaskLearned)][-1:]
        assert event.memory[part] == 3 * numbers * 4 * 12


def depthwise(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(64, num_classes))


def test_depthwise_kernels_are_patched_where_there_are_any(tiny: Tiny):
    net = {"net.name": "tests.test_masks:depthwise"}
    strategy = last(tiny("patch", kind="depthwise", **net))
    assert list(strategy._patch.layout.shapes) == ["1.weight"]
    with pytest.raises(UsageError, match="no depthwise convolution"):
        last(tiny("patch", kind="both"))


@pytest.mark.parametrize("norm", ["statistics", "frozen"])
def test_tasks_are_inferred_with_a_net_whose_layers_keep_statistics(norm: str):
    own = {
        "net.name": "cl_engine.testing.small:with_batchnorm",
        "net.hidden": 4,
        "stream.setting": "domain",
        "stream.n": 2,
    }
    experiment = Experiment.of(scenario(), "supsup", (0,), norm=norm, **own)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    told = [
        event
        for event in simulate(stream, strategy, plan(stream, experiment.agenda))
        if isinstance(event, TaskInferred)
    ]
    assert [event.task_id for event in told] == [0, 1]
    assert strategy.predict(stream.test(1).x, None).isfinite().all()
