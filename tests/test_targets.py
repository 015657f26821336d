"""Targets: losses of rows, and measures that are functions of sums, held to other libraries."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import (
    accuracy_score,
    explained_variance_score,
    jaccard_score,
    mean_absolute_error,
    root_mean_squared_error,
)
from torch import Tensor
from torchmetrics.functional.detection import intersection_over_union

from cl_engine.nn.target import Target
from cl_engine.runs import plugins
from cl_engine.targets.boxes import BINS, Boxes, overlap
from cl_engine.targets.class_map import UNLABELLED, ClassMap
from cl_engine.targets.classes import Classes
from cl_engine.targets.number_map import NumberMap
from cl_engine.targets.numbers import Numbers
from cl_engine.testing import TargetContract

SIDE = 12

for name in plugins.names("targets"):
    globals()[f"Test_{name}"] = type(f"Test_{name}", (TargetContract,), {"target": name})


class TestOwn(TargetContract):
    target = "tests.own_plugins:Sign"

    def labels(self, target: Target) -> Tensor:
        return torch.tensor([1, -1, 1, 1])


def drawn(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def boxes(rows: int, draw: torch.Generator) -> Tensor:
    """Return up to three boxes a row ``[N, 3, 4]``, −1 where there are fewer."""
    corner = torch.rand(rows, 3, 2, generator=draw) * SIDE * 0.6
    sides = torch.rand(rows, 3, 2, generator=draw) * SIDE * 0.35 + 1
    found = torch.cat([corner, corner + sides], dim=2)
    return torch.where(torch.rand(rows, 3, 1, generator=draw) < 0.7, found, -1.0)


def case(name: str, rows: int = 6, seed: int = 0) -> tuple[Target, Tensor, Tensor]:
    """Return a target, outputs of a net and labels."""
    draw = drawn(seed)
    size = SIDE, SIDE
    if name == "classes":
        return Classes.of(classes=4), torch.randn(rows, 4, generator=draw), torch.randint(4, (rows,), generator=draw)
    if name == "class_map":
        y = torch.randint(3, (rows, *size), generator=draw)
        y[:, 0, 0] = UNLABELLED
        return ClassMap.of(classes=3), torch.randn(rows, 3, 6, 6, generator=draw), y
    if name == "numbers":
        y = torch.randn(rows, 2, generator=draw) * 3 + 5
        return Numbers.of(numbers=2, mean=[5.0], std=[3.0, 2.0]), torch.randn(rows, 2, generator=draw), y
    if name == "boxes":
        return Boxes.of(size=list(size)), torch.randn(rows, 5, 6, 6, generator=draw), boxes(rows, draw)
    kind = name.partition(" ")[2]
    channels = 3 if kind == "normals" else 1
    y = torch.rand(rows, channels, *size, generator=draw) + 0.5
    if kind == "normals":
        y = torch.nn.functional.normalize(y - 1, dim=1)
    y[0, :, 0, :3] = torch.nan
    target = NumberMap.of(channels=channels, kind=kind, mean=[1.0])
    return target, torch.randn(rows, channels, 6, 6, generator=draw), y


NAMES = ["classes", "class_map", "numbers", "number_map plain", "number_map depth", "number_map normals", "boxes"]
each_target = pytest.mark.parametrize("name", NAMES)


@each_target
@given(cut=st.integers(1, 5), seed=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_sums_of_two_halves_are_the_sums_of_the_whole(name: str, cut: int, seed: int):
    target, outputs, y = case(name, seed=seed)
    halves = target.sums(outputs[:cut], y[:cut]) + target.sums(outputs[cut:], y[cut:])
    torch.testing.assert_close(halves, target.sums(outputs, y))
    assert len(target.sum_names) == len(halves)


@each_target
def test_the_loss_is_one_number_a_row_that_does_not_depend_on_the_rows_beside_it(name: str):
    target, outputs, y = case(name)
    losses = target.losses(outputs, y)
    assert losses.shape == (6,) and losses.isfinite().all()
    torch.testing.assert_close(losses[2:3], target.losses(outputs[2:3], y[2:3]))
    torch.testing.assert_close(target.loss(outputs, y), losses.mean())


@each_target
def test_losses_of_several_seeds_run_as_one_vmap(name: str):
    target, outputs, y = case(name)
    seeds = torch.stack([outputs, outputs + 1])
    together = torch.vmap(lambda own: target.losses(own, y))(seeds)
    torch.testing.assert_close(together, torch.stack([target.losses(own, y) for own in seeds]))


@each_target
def test_steps_along_the_gradient_lower_the_loss_and_better_the_measure(name: str):
    target, outputs, y = case(name)
    before = target.score(target.sums(outputs, y).numpy())
    outputs = torch.nn.functional.interpolate(outputs, (SIDE, SIDE)) if outputs.ndim > 2 else outputs
    outputs = outputs.clone().requires_grad_()
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = target.loss(outputs, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = target.score(target.sums(outputs.detach(), y).numpy())
    assert losses[-1] < losses[0]
    assert (after > before) == target.measure.higher
    assert target.measure.name in target.scores(target.sums(outputs.detach(), y).numpy())


@each_target
def test_extra_outputs_of_a_wider_head_are_not_looked_at(name: str):
    target, outputs, y = case(name)
    wide = torch.cat([outputs, torch.full_like(outputs, 50.0)], dim=1)
    torch.testing.assert_close(target.losses(wide, y), target.losses(outputs, y))
    torch.testing.assert_close(target.sums(wide, y), target.sums(outputs, y))


@each_target
def test_a_guess_is_no_worse_than_chance_and_scores_what_looking_at_nothing_can(name: str):
    target, outputs, y = case(name, rows=40)
    guess = target.guess(y)
    assert guess.shape == (target.outputs,)
    said = guess.reshape(1, -1, *[1] * (outputs.ndim - 2)).expand_as(outputs)
    score = target.score(target.sums(said, y).numpy())
    if target.measure.name == "explained_variance":
        assert score == pytest.approx(0, abs=1e-6)
    assert np.isfinite(score)


@each_target
def test_good_labels_have_no_fault_and_labels_of_another_shape_are_named(name: str):
    target, _, y = case(name)
    assert target.fault(y.numpy()) == ""
    assert "of shape" in target.fault(y.numpy()[..., None])


def test_accuracy_is_that_of_scikit_learn():
    target, outputs, y = case("classes", rows=50)
    assert target.score(target.sums(outputs, y).numpy()) == accuracy_score(y, outputs.argmax(1))


def test_mean_iou_and_pixel_accuracy_are_those_of_scikit_learn_where_there_are_labels():
    target, outputs, y = case("class_map")
    full = torch.nn.functional.interpolate(outputs, (SIDE, SIDE), mode="bilinear").argmax(1)
    known = y != UNLABELLED
    scores = target.scores(target.sums(outputs, y).numpy())
    assert scores["mean_iou"] == pytest.approx(jaccard_score(y[known], full[known], average="macro"))
    assert scores["pixel_accuracy"] == pytest.approx(accuracy_score(y[known], full[known]))


def test_a_class_that_neither_occurs_nor_is_answered_takes_no_part_in_mean_iou():
    target, y = ClassMap.of(classes=3), torch.zeros(1, 2, 2, dtype=torch.int64)
    outputs = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1)
    assert target.score(target.sums(outputs, y).numpy()) == 1


def test_scores_of_numbers_are_those_of_scikit_learn():
    target, outputs, y = case("numbers", rows=50)
    found, scores = target.answers(outputs), target.scores(target.sums(outputs, y).numpy())
    assert scores["explained_variance"] == pytest.approx(explained_variance_score(y, found))
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(y.flatten(), found.flatten()), rel=1e-6)
    assert scores["mae"] == pytest.approx(mean_absolute_error(y, found))


def test_depth_is_right_within_a_factor_and_normals_are_measured_by_their_angle():
    depth, y = NumberMap.of(channels=1, kind="depth"), torch.full((1, 1, 1, 4), 2.0)
    outputs = torch.tensor([2.4, 2.6, 1.7, 1.5]).reshape(1, 1, 1, 4)  # 2.5 and 1.6 are the bounds
    assert depth.score(depth.sums(outputs, y).numpy()) == 0.5
    normals = NumberMap.of(channels=3, kind="normals")
    up, tilted = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ([0.0, 1, 0], [0.0, 5, 5]))
    assert normals.score(normals.sums(tilted, up).numpy()) == pytest.approx(45)


def test_overlap_is_that_of_torchmetrics():
    a, b = (found[found[..., 0] >= 0] for found in (boxes(8, drawn(1)), boxes(8, drawn(2))))
    ours = overlap(a[:, None], b[None])
    torch.testing.assert_close(ours, intersection_over_union(a, b, aggregate=False))


ONE, TWO = [1.0, 2, 4, 6], [7.0, 2, 11, 6]


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ([(0.9, ONE), (0.8, TWO)], 1.0),
        ([(0.9, ONE), (0.8, [4.5, 0, 6.5, 1]), (0.7, TWO)], 0.5 + 0.5 * 2 / 3),  # right, wrong, right
        ([(0.9, [4.5, 0, 6.5, 1])], 0.0),
    ],
    ids=["both", "a wrong one between", "none"],
)
def test_average_precision_is_that_of_the_example_by_hand(said: list, score: float):
    target = Boxes.of(size=[SIDE, SIDE])
    y = torch.tensor([[ONE, TWO, [-1.0] * 4]])
    found = torch.tensor([[[*box, confidence] for confidence, box in said]])
    target.answers = lambda outputs: found  # type: ignore[method-assign]
    assert target.score(target.sums(torch.zeros(1, 5, 1, 1), y).numpy()) == pytest.approx(score)


def coco_evaluation(said: list[Tensor], y: Tensor) -> Any:
    """Return pycocotools' evaluation at an overlap of .5 of answers ``[n, 5]`` of each picture, with its progress not printed."""
    truth = [(k, box.tolist()) for k, row in enumerate(y) for box in row if box[2] > box[0]]
    found = [(k, box.tolist()) for k, row in enumerate(said) for box in row]

    def entry(number: int, picture: int, box: list[float]) -> dict[str, Any]:
        left, top, right, bottom = box[:4]
        sides = right - left, bottom - top
        place = {"bbox": [left, top, *sides], "area": sides[0] * sides[1], "category_id": 1, "iscrowd": 0}
        return {"id": number, "image_id": picture, **place, "score": box[-1]}

    with redirect_stdout(StringIO()):
        parts = COCO(), COCO()
        for coco, boxes_of in zip(parts, (truth, found), strict=True):
            pictures = [{"id": k, "width": SIDE, "height": SIDE} for k in range(len(y))]
            entries = [entry(number, *box) for number, box in enumerate(boxes_of, start=1)]
            coco.dataset = {"images": pictures, "categories": [{"id": 1}], "annotations": entries}
            coco.createIndex()
        evaluation = COCOeval(*parts, "bbox")
        evaluation.params.iouThrs, evaluation.params.maxDets = np.array([0.5]), [100]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@pytest.mark.parametrize("seed", range(4))
def test_boxes_that_are_found_are_those_of_pycocotools_and_average_precision_within_a_step_of_its_recall(seed: int):
    draw = drawn(seed)
    y = boxes(30, draw)
    there = y[..., 0] >= 0
    moved = y[there] + 0.6 * torch.randn(int(there.sum()), 4, generator=draw)
    moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 0.1)
    confidence = (torch.randperm(len(moved), generator=draw) + 0.5) / len(moved)
    every, picture = torch.cat([moved, confidence[:, None]], dim=1), there.nonzero()[:, 0]
    said = [every[picture == row] for row in range(30)]
    answers = torch.full((30, 3, 5), -1.0)
    for row, found in enumerate(said):
        answers[row, : len(found)] = found[found[:, 4].argsort(descending=True)]
    target = Boxes.of(size=[SIDE, SIDE])
    target.answers = lambda outputs: answers  # type: ignore[method-assign]
    sums = target.sums(torch.zeros(30, 5, 1, 1), y).numpy()
    theirs = coco_evaluation(said, y)
    matches = sum(int((one["dtMatches"] > 0).sum()) for one in theirs.evalImgs if one is not None)
    assert sums[1 : 1 + BINS].sum() == matches
    # theirs is the mean of precision at 101 recalls, ours the area below it: they differ by a step of recall at the most
    assert float(target.score(sums)) == pytest.approx(theirs.eval["precision"][0, :, 0, 0, 0].mean(), abs=0.01)


def test_a_box_is_found_once_and_what_finds_it_again_is_wrong():
    target, y = Boxes.of(size=[SIDE, SIDE]), torch.tensor([[ONE, TWO]])
    found = torch.tensor([[[*ONE, 0.9], [*ONE, 0.8], [*TWO, 0.7]]])
    target.answers = lambda outputs: found  # type: ignore[method-assign]
    sums = target.sums(torch.zeros(1, 5, 1, 1), y).numpy()
    assert sums[0] == 2 and sums[1 : 1 + BINS].sum() == 2 and sums[1 + BINS :].sum() == 1
    assert target.score(sums) == pytest.approx(0.5 + 0.5 * 2 / 3)  # right, wrong, right


def test_where_there_are_no_boxes_average_precision_is_not_defined():
    target, y = Boxes.of(size=[SIDE, SIDE]), torch.full((2, 3, 4), -1.0)
    assert np.isnan(target.score(target.sums(torch.zeros(2, 5, 3, 3), y).numpy()))


def test_answers_that_overlap_a_surer_one_are_dropped():
    target = Boxes.of(size=[SIDE, SIDE])
    outputs = torch.zeros(1, 5, 2, 2)
    outputs[:, 0] = 6.0
    outputs[:, 1:] = 5.0  # every place says the whole picture, and more
    answers = target.answers(outputs)
    assert (answers[0, :, 4] >= 0).sum() == 1


@pytest.mark.parametrize(
    ("target", "y", "words"),
    [
        (Classes.of(classes=2), np.array([0, 2]), "one of them is 2"),
        (ClassMap.of(classes=2), np.full((2, 3, 3), UNLABELLED), "no place of row 0"),
        (ClassMap.of(classes=2), np.full((2, 3, 3), 7), "one of them is 7"),
        (Numbers.of(numbers=1), np.array([[0.0], [np.nan]]), "row 1 is not finite"),
        (NumberMap.of(channels=1), np.full((1, 1, 2, 2), np.inf), "infinite"),
        (NumberMap.of(channels=1), np.full((1, 1, 2, 2), np.nan), "no place of row 0"),
        (Boxes.of(size=[8, 8]), np.array([[[1.0, 1, 9, 4]]]), "a box of row 0"),
        (Boxes.of(size=[8, 8]), np.array([[[4.0, 1, 2, 4]]]), "a box of row 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_that_cannot_be_are_named(target: Target, y: np.ndarray, words: str):
    assert words in target.fault(y)
