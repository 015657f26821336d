"""Nets behind a front that brings images to another size, streams of images of many sizes, and a front a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.adapters.patches import PatchParts
from cl_engine.data.gradual_stream import arranged
from cl_engine.data.images import to_shape
from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.masks.layout import maskable
from cl_engine.nn.division import division, ends
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario
from cl_engine.streams.resolution import Resolution
from cl_engine.testing.small import images
from tests.conftest import TINY

SMALL: dict[str, Any] = {"net.name": "resized", "net.inner": "mlp", "net.inner_options": {"hidden": [6, 6]}}
SMALL |= {"net.size": 5, "net.filters": 3, "train.epochs": 1}


def built(shape: tuple[int, int, int], **options: Any) -> Any:
    return plugins.net_builder("resized", {"inner": "small_cnn", "size": 14, **options}, shape, 10)()


def net(inner: str, shape: tuple[int, int, int] = (1, 8, 8), **options: Any) -> Net:
    return Net(plugins.net_builder("resized", {"inner": inner, "size": 6, "filters": 3, **options}, shape, 4), shape)


# The front.


@pytest.mark.parametrize(
    ("channels", "filters", "blocks", "kernels", "weights"),
    [
        *(
            (3, 16, 1, 11_872, 12_035),
            (3, 16, 2, 16_480, 16_707),
            (3, 16, 3, 21_088, 21_379),
            (3, 16, 4, 25_696, 26_051),
        ),
        *((3, 32, 1, 38_080, None), (3, 32, 2, 56_512, None), (3, 32, 3, 74_944, None), (3, 32, 4, 93_376, None)),
        (1, 16, 1, 8_736, 8_897),
    ],
)
def test_the_learned_resizer_has_the_published_number_of_weights(
    channels: int, filters: int, blocks: int, kernels: int, weights: int | None
):
    front = built((channels, 28, 28), filters=filters, blocks=blocks).front
    assert sum(weight.numel() for weight in front.parameters() if weight.ndim == 4) == kernels
    assert kernels == 98 * channels * filters + 10 * filters**2 + 18 * blocks * filters**2
    if weights is not None:
        assert sum(weight.numel() for weight in front.parameters()) == weights


@pytest.mark.parametrize("front", ["learned", "learned_antialiased"])
@pytest.mark.parametrize("init", ["default", "kaiming"])
def test_a_last_convolution_of_zeros_makes_the_learned_front_interpolation_and_nothing_else(front: str, init: str):
    x = torch.rand(2, 3, 20, 20)
    module = built((3, 20, 20), front=front, zero=True, init=init)
    plain = F.interpolate(x, (14, 14), mode="bilinear", antialias="antialiased" in front)
    assert torch.equal(module.front(x), plain)
    assert not torch.equal(built((3, 20, 20), front=front, init=init).front(x), plain)
    module.front(x).sum().backward()
    assert module.front.out.weight.grad.any()


@pytest.mark.parametrize("front", ["learned", "learned_antialiased", "bilinear", "antialiased", "strided"])
def test_a_front_takes_images_of_any_size_and_gives_those_asked_for(front: str):
    for given in ((28, 28), (57, 30), (5, 9), (14, 12)):
        module = built((2, *given), front=front, size=[14, 12])
        assert module.front(torch.rand(2, 2, *given)).shape == (2, 2, 14, 12)
        assert module(torch.rand(2, 2, 31, 17)).shape == (2, 10)
    assert torch.equal(built((2, 4, 4), front="bilinear", size=4).front(x := torch.rand(1, 2, 4, 4)), x)


@pytest.mark.parametrize(("side", "strides"), [(56, (2, 2)), (30, (2, 1)), (14, (1, 1)), (7, (1, 1)), (126, (3, 3))])
def test_strides_shrink_an_image_by_as_much_as_whole_numbers_can(side: int, strides: tuple[int, int]):
    front = built((1, side, side), front="strided").front
    assert (front.conv0.stride[0], front.conv1.stride[0]) == strides
    assert sum(weight.numel() for weight in front.parameters()) == 8_065


@pytest.mark.parametrize("front", ["learned_antialiased", "strided"])
def test_a_front_is_trained_in_half_precision_too(tmp_path: Path, front: str):
    changes = {**SMALL, "net.front": front, "train.precision": "bfloat16", "stream.n": 1}
    assert open_run(Experiment.of(TINY, "finetune", (0,), **changes).run(tmp_path, device="cpu")).status == "finished"


# Any net behind it.


def small(num_classes: int, input_shape: tuple[int, ...], width: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(int(np.prod(input_shape)), width), nn.ReLU(), nn.Linear(width, num_classes)
    )


@pytest.mark.parametrize(
    ("inner", "options", "modules"),
    [
        ("mlp", {"hidden": [6, 6]}, ["inner.1", "inner.3"]),
        ("small_cnn", {"width": 4, "layers": 2}, ["inner.norm0", "inner.norm1"]),
        ("unet", {"width": 4, "stages": 2}, ["inner.encoder.blocks.0", "inner.encoder.blocks.1", "inner.decoder.0"]),
        ("tests.test_learned_inputs:small", {"width": 7}, ["inner.1"]),
        ("resized", {"inner": "mlp", "size": 5, "front": "strided", "inner_options": {"hidden": []}}, None),
    ],
)
def test_the_front_of_any_net_is_one_module_before_those_of_the_net(
    inner: str, options: dict[str, Any], modules: list[str] | None
):
    made = net(inner, inner_options=options)
    parts = division(made)
    assert parts[0] == [name for name in made.shapes if name.startswith("front.")] and parts[-1] == [
        HEAD_WEIGHT,
        HEAD_BIAS,
    ]
    assert ends(made)[0] == "front" and (modules is None or ends(made)[1:] == modules)
    assert {"front.conv0.weight", "front.blocks.0.conv1.weight", "front.out.weight"} < set(maskable(made))
    same = net(inner, inner_options=options, front="antialiased")
    assert division(same) == parts[1:] and not any(name.startswith("front") for name in same.shapes)


class Staged(nn.Module):
    """A net of a user's with layers called stages, as ConvNeXt has them: no names of weights to cut it at."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.Conv2d(2, 2, 1))
        self.head = nn.Linear(2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_layers_that_are_called_stages_are_cut_like_others_with_a_front_and_without():
    plain = Net(lambda: Staged(4), (1, 8, 8))
    assert ends(plain) == ["stages.0", "stages.1"]
    assert ends(net("tests.test_learned_inputs:Staged")) == ["front", "inner.stages.0", "inner.stages.1"]


@pytest.mark.parametrize("strategy", ["hat", "mntdp", "packnet", "piggyback", "skill_recall", "supsup"])
def test_strategies_of_masks_modules_and_codes_wear_a_net_with_a_front(tmp_path: Path, strategy: str):
    changes = {"stream.validation": 0.25} if strategy == "mntdp" else {}
    run = open_run(Experiment.of(TINY, strategy, (0,), **SMALL, **changes).run(tmp_path / "run", device="cpu"))
    assert run.status == "finished"


def test_dense_tasks_are_answered_at_the_size_of_their_labels_whatever_the_inner_net_is_given(tmp_path: Path):
    tables: dict[str, Any] = {
        "stream": {
            "name": "views",
            "source": "scenes?size=32&rows=40&test_rows=6",
            "views": ["segmentation", "depth"],
            "labelled": 12,
        },
        "net": {
            "name": "resized",
            "inner": "unet",
            "inner_options": {"width": 4, "stages": 2},
            "size": 16,
            "filters": 3,
        },
        "train": {"epochs": 1, "batch": 6, "optimizer": "adam", "lr": 0.01},
    }
    experiment = Experiment.of(Scenario.of("dense", tables), "finetune")
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    outputs = strategy.net.all(strategy.net.init([0]), (rows := stream.test(0)).x)
    assert outputs.shape[3:] == (16, 16) and stream.target(0).answers_at(outputs[0], rows.y).shape == rows.y.shape
    assert open_run(experiment.run(tmp_path / "run", device="cpu")).status == "finished"


@pytest.mark.parametrize(
    ("options", "shape", "sentence"),
    [
        ({"inner": "mpl"}, (1, 8, 8), r"net\.inner: 'mpl': no net named 'mpl' \(did you mean 'mlp'"),
        (
            {"inner": "mlp", "inner_options": {"hiden": [3]}},
            (1, 8, 8),
            r"net\.inner: 'mlp': .*did you mean 'net\.hidden'",
        ),
        ({"inner": "lenet", "size": 4}, (1, 8, 8), r"does not accept inputs of shape \(1, 8, 8\).*\(4 x 4\)"),
        ({"inner": "torch.nn:ReLU"}, (1, 8, 8), "end the net with its head"),
        ({"size": 0}, (1, 8, 8), r"net\.size: found 0; allowed are a number of pixels, or \[height, width\]"),
        ({"size": [4, 4, 4]}, (1, 8, 8), r"net\.size: found \[4, 4, 4\]"),
        ({"front": "bicubic"}, (1, 8, 8), r"net\.front: .*'learned'"),
        ({"front": "strided", "zero": True}, (1, 8, 8), r"net\.zero: a 'strided' front has no interpolation"),
        ({}, (1, 40), r"'resized' needs images \[channels, height, width\], found inputs of shape \(1, 40\)"),
    ],
)
def test_a_front_that_does_not_fit_is_refused_in_a_sentence(options: dict[str, Any], shape: Any, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        net(**{"inner": "mlp", "shape": shape, **options})


# A front a task.


class Fronted(nn.Module):
    """A net of a user's whose first part is called front, and is no class of ours."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.BatchNorm2d(2))
        self.norm, self.head = nn.BatchNorm1d(18), nn.Linear(18, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.front(x).flatten(1)))  # type: ignore[no-any-return]


def test_a_patch_of_the_front_is_its_kernels_and_its_norms():
    shape = (1, 28, 28)
    made = Net(plugins.net_builder("resized", {"inner": "small_cnn", "size": 14}, shape, 10), shape)
    patch = PatchParts(made, "front")
    statistics = 2 * 16 * 4
    assert patch.layout.size + patch.norms.layout.size == 8_897 + statistics
    assert all(name.startswith("front.") for name in (*patch.layout.shapes, *patch.norms.layout.shapes))


@pytest.mark.parametrize("kind", [SMALL, {"net.name": "tests.test_learned_inputs:Fronted", "train.epochs": 1}])
def test_a_front_a_task_over_a_frozen_net_forgets_nothing_and_trains_the_front_alone(
    tmp_path: Path, kind: dict[str, Any]
):
    path = Experiment.of(TINY, "patch", (0,), kind="front", **kind).run(tmp_path / "run", device="cpu")
    scores = open_run(path).results["accuracy"].values[..., 0]
    assert all(scores[-1, task] == scores[task + 1, task] for task in range(3))
    experiment = Experiment.of(TINY, "patch", (0,), kind="front", **kind)
    strategy = experiment.build_strategy(experiment.stream())
    own = {**strategy._patch.layout.shapes, **strategy._patch.norms.layout.shapes}  # type: ignore[attr-defined]
    assert set(own) == {n for n in strategy.net.shapes if n.startswith("front.") and "num_batches" not in n}


@pytest.mark.parametrize("changes", [{}, {**SMALL, "net.front": "bilinear"}])
def test_a_patch_of_the_front_is_refused_where_no_front_learns(changes: dict[str, Any]):
    experiment = Experiment.of(TINY, "patch", (0,), kind="front", **changes)
    strategy = experiment.build_strategy(experiment.stream())
    with pytest.raises(UsageError, match="patch: the net has no front that learns: use the net 'resized'"):
        strategy.start()


# Images of many sizes.


def stream(arrays: Arrays | None = None, **options: Any) -> Resolution:
    return Resolution(arrays or images(), source="given", **{"canvas": 9, "sizes": [3, 5, 9], **options})


def test_each_task_shows_the_source_at_its_own_size_in_the_middle_of_the_canvas():
    shown, plain = stream(), torch.from_numpy(images().test_x)
    for task, size in enumerate((3, 5, 9)):
        x, edge = shown.test(task).x, (9 - size) // 2
        inside = x[:, :, edge : edge + size, edge : edge + size]
        rows = np.argsort(images().test_y, kind="stable")
        assert torch.equal(inside, to_shape(plain[rows], (1, size, size)))
        assert inside.sum(dtype=torch.int64) == x.sum(dtype=torch.int64) and x.dtype == torch.uint8
    assert [shown.name_of(task) for task in range(3)] == ["3 px", "5 px", "9 px"]


def test_an_image_keeps_its_colours_and_the_ratio_of_its_sides():
    wide = np.full((4, 3, 4, 8), 9, np.uint8)
    wide[:, 1] = 200
    [x] = (stream(Arrays(wide, np.arange(4) % 2, wide, np.arange(4) % 2, 2), sizes=6, canvas=7).test(0).x[:1],)
    assert x.shape == (1, 3, 7, 7) and x[0, 1].eq(200).sum() == x[0, 0].eq(9).sum() == 3 * 6


def test_a_row_has_a_place_of_its_own_whichever_rows_are_beside_it():
    many = images(train=8, test=8)
    spread = stream(many, places="random", sizes=[3, 3], canvas=40)

    def places(x: Tensor) -> list[tuple[int, int]]:
        return [(int(one.any(1).nonzero()[0]), int(one.any(0).nonzero()[0])) for one in x[:, 0]]

    learned, tested = places(spread[0].train.x), places(spread.test(0).x)
    assert len(set(learned)) > 40 and learned != tested
    assert places(spread[1].train.x) == learned
    few = stream(many, places="random", sizes=3, canvas=40, samples_per_class=2, validation=0.5)[0]
    rows = {one.tobytes(): place for one, place in zip(spread[0].train.x.numpy(), learned, strict=True)}
    assert all(one.tobytes() in rows for one in (*few.train.x.numpy(), *few.validation.x.numpy()))
    assert stream(many, places="random", seed=1, sizes=3, canvas=40)[0].train.x.ne(spread[0].train.x).any()


def test_a_blur_is_of_the_canvas_and_spreads_what_is_there():
    dot = np.zeros((2, 1, 5, 5), np.uint8)
    dot[:, :, 2, 2] = 200
    arrays = Arrays(dot, np.arange(2), dot, np.arange(2), 2)
    sharp, blurred = (stream(arrays, sizes=5, blur=[0.0, 1.0]).test(task).x[0, 0] for task in range(2))
    assert sharp.count_nonzero() == 1 and blurred[4, 4] == blurred.max() < 200
    assert blurred[4, 6] and torch.equal(blurred, blurred.T)
    assert abs(int(blurred.sum(dtype=torch.int64)) - 200) < 25


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sizes": [3, 10]}, r"stream\.sizes: found 10; allowed are 1 to 9, the canvas"),
        ({"sizes": 0}, r"stream\.sizes: found 0"),
        ({"sizes": []}, r"stream\.sizes and stream\.blur: found 0 and 1"),
        ({"sizes": [3, 4], "blur": [0.0, 1.0, 2.0]}, "found 2 and 3; allowed are as many of both, or one"),
        ({"blur": -1.0}, r"stream\.blur: found -1; allowed are 0 to a third of the canvas, 9"),
        ({"blur": 3.1}, r"stream\.blur: found 3\.1"),
        ({"n": 4}, r"stream\.n: found 4, and there are 3 sizes and blurs"),
        ({"places": "corner"}, r"stream\.places"),
        (
            {"arrays": Arrays(*(np.zeros((2, 1, 40), np.float32), np.arange(2)) * 2, 2)},
            "has no images to resize, its inputs are float32",
        ),
    ],
)
def test_sizes_that_do_not_fit_the_canvas_and_inputs_that_are_no_images_are_refused(
    options: dict[str, Any], sentence: str
):
    with pytest.raises(UsageError, match=sentence):
        stream(**options)


def test_images_that_are_not_square_keep_their_sides_where_seeds_have_tasks_of_their_own():
    wide = np.full((20, 1, 4, 8), 200, np.uint8)
    arrays = Arrays(wide, np.arange(20) % 2, wide, np.arange(20) % 2, classes=2)
    for per_seed in (False, True):
        stream = arranged(Resolution(arrays, source="given", canvas=12, sizes=[8], per_seed=per_seed), [0, 1])
        lit = stream[0].train.x[0, 0] > 0
        assert (int(lit.any(dim=1).sum()), int(lit.any(dim=0).sum())) == (4, 8)
