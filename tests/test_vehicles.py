"""Vehicles from above: pictures and boxes of domains, and boxes that follow their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cl_engine.analysis.plots import gallery
from cl_engine.analysis.plots.predictions import detections
from cl_engine.analysis.plots.style import figure
from cl_engine.data.augmentation import Augmentation
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs.data_root import DataRoot
from cl_engine.runs.scenario import Scenario
from cl_engine.scenes import aerial
from cl_engine.streams.vehicles import SHIFTS, Vehicles
from cl_engine.targets.boxes import Boxes
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob, RowsBeside
from cl_engine.training.optimizers import Train

SIDE = 16


def few(**options: object) -> Vehicles:
    return Vehicles(size=32, **{"rows": 6, "test_rows": 6, **options})


def block(box: list[float]) -> Tensor:
    """Return an image ``[1, 1, SIDE, SIDE]`` that is 1 inside a box of whole pixels."""
    left, top, right, bottom = (int(side) for side in box)
    image = torch.zeros(1, 1, SIDE, SIDE)
    image[:, :, top:bottom, left:right] = 1
    return image


def test_the_four_domains_are_the_same_whoever_asks_and_in_whatever_order():
    one, other = few(), few()
    for task in (3, 0):
        assert torch.equal(one[task].train.x, other[task].train.x) and torch.equal(one.test(task).y, other.test(task).y)
    assert [one.name_of(task) for task in range(4)] == ["clear", "mild", "moderate", "severe"]
    assert not torch.equal(few(seed=1)[0].train.x, one[0].train.x)


def test_no_two_tasks_show_the_same_vehicles():
    stream = few(domains=["clear", "clear"], rows=32)
    boxes = [{tuple(box) for box in stream[task].train.y.flatten(0, 1).tolist() if box[0] >= 0} for task in range(2)]
    assert len(boxes[0]) > 20 and not boxes[0] & boxes[1]


def test_every_option_of_a_domain_changes_pictures_and_those_of_size_alone_the_boxes():
    plain, boxes = aerial.pictures(8, 0, "train", 32, aerial.Domain())
    other = {
        "light": 0.5,
        "contrast": 0.5,
        "blur": 1.0,
        "ground": "snow",
        "warmth": 0.3,
        "noise": 0.1,
        "coarse": 2.0,
        "clutter": 5,
        "shadow": -1.0,
        "scale": 0.5,
    }
    assert other.keys() == aerial.Domain.model_fields.keys()
    for name, value in other.items():
        changed, found = aerial.pictures(8, 0, "train", 32, aerial.Domain(**{name: value}))
        assert not torch.equal(changed, plain), name
        assert np.array_equal(found, boxes) == (name != "scale"), name


def test_half_the_scale_halves_vehicles_about_their_middles():
    (_, boxes), (_, small) = (aerial.pictures(32, 0, "train", 64, aerial.Domain(scale=s)) for s in (1.0, 0.5))
    first = (boxes[:, 0, 0] > 1) & (boxes[:, 0, 2] < 63) & (boxes[:, 0, 1] > 1) & (boxes[:, 0, 3] < 63)
    large, half = boxes[first, 0], small[first, 0]
    free = np.isclose(large[:, :2] + large[:, 2:4], half[:, :2] + half[:, 2:4], atol=1e-3).all(axis=1)
    assert free.sum() > 5  # those beside the road stand where they stood
    assert np.allclose((half[free, 2] - half[free, 0]) * 2, large[free, 2] - large[free, 0], atol=1e-3)


def test_pictures_are_rendered_once_and_read_from_the_data_root_after_that(tmp_path: Path, monkeypatch):
    first = Vehicles.build({"size": 32, "rows": 6, "test_rows": 6}, DataRoot(tmp_path), "cpu")[1]
    monkeypatch.setattr(aerial, "pictures", lambda *args: pytest.fail("rendered again"))
    again = Vehicles.build({"size": 32, "rows": 6, "test_rows": 6}, DataRoot(tmp_path), "cpu")[1]
    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.train.y, again.train.y)


def test_validation_pictures_are_set_aside_and_unlabelled_domains_come_without_boxes():
    stream = few(validation=0.5, unlabelled=[1])
    assert (len(stream[0].train), len(stream[0].validation), stream.train_rows(0)) == (3, 3, 3)
    arrival = stream.arrival(1)
    assert not arrival.labelled and bool((arrival.train.y == -1).all() and (arrival.validation.y == -1).all())
    assert torch.equal(arrival.train.x, stream[1].train.x) and bool((stream.test(1).y[..., 0] >= 0).any())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"setting": "class"}, r"stream\.setting: domains share what is looked for"),
        ({"n": 5}, r"stream\.n: 5 tasks, and stream\.domains has 4"),
        ({"domains": ["foggy"]}, r"stream\.domains"),
        ({"domains": [{"fog": 1.0}]}, r"stream\.domains"),
        ({"domains": [{"light": 0.0}]}, r"stream\.domains.*light"),
        ({"revisit": [4]}, r"stream\.revisit: there is no task 4"),
    ],
)
def test_domains_that_cannot_be_are_refused_in_a_sentence(options: dict[str, object], words: str):
    with pytest.raises(UsageError, match=words):
        few(**options)


def test_shifts_are_named_and_a_table_says_what_it_changes():
    assert list(SHIFTS) == ["clear", "mild", "moderate", "severe"] and SHIFTS["clear"] == aerial.Domain()
    assert few(domains=[{"ground": "sand", "coarse": 2.0}]).name_of(0) == "ground sand, coarse 2"


# Looking at detections.


def test_answers_are_drawn_by_whether_they_found_a_box_that_nobody_surer_had_found():
    axes = figure()[1]
    wanted = np.array([[2.0, 2, 8, 8], [-1, -1, -1, -1]])
    found = np.array([[2.0, 2, 8, 7, 0.9], [2, 2, 8, 8, 0.8], [9, 9, 12, 12, 0.7], [0, 0, 5, 5, 0.4], [-1] * 5])
    detections(axes, wanted, found)
    assert [patch.get_linestyle() for patch in axes.patches] == ["-", "--", ":", ":"]


def test_a_report_has_precision_against_recall_of_every_domain_of_a_run(tmp_path: Path):
    experiment = Experiment.of(Scenario.of("vehicles", TABLES), "finetune", (0, 1))
    run = open_run(experiment.run(tmp_path / "run", data_root=tmp_path))
    drawn = {picture.name: picture.draw for picture in gallery.of_run(run)}["precision-recall"]()
    assert drawn is not None and [line.get_label() for line in drawn.axes[0].lines] == ["0 clear", "1 mild"]
    assert run.measures[0].name == "ap_50" and not np.isnan(run.results["score"].values[-1]).any()


# Boxes follow their images.


@given(
    box=st.tuples(*[st.integers(0, 7)] * 2, *[st.integers(3, 8)] * 2),
    crop=st.integers(0, 4),
    flip=st.sampled_from([0.0, 1.0]),
    vertical=st.sampled_from([0.0, 1.0]),
)
def test_the_box_of_a_moved_image_bounds_what_the_image_shows(
    box: tuple[int, int, int, int], crop: int, flip: float, vertical: float
):
    left, top, width, height = box
    asked = [float(left), float(top), float(left + width), float(top + height)]
    how, target = Augmentation(crop, flip, vertical), Boxes.of(size=[SIDE, SIDE])
    drawn = how.draw(1, torch.Generator().manual_seed(left + 8 * top))
    shown = how.applied(block(asked), drawn, torch.zeros(1, 1, 1))[0, 0]
    y = how.applied_to_labels(target, torch.tensor([[[*asked, 7.0], [-1.0] * 5]]), drawn, (SIDE, SIDE))
    assert y[0, 1].tolist() == [-1] * 5
    rows, columns = shown.nonzero(as_tuple=True)
    if len(rows) < width * height / 4:
        assert y[0, 0].tolist() == [-1] * 5
    else:
        bounds = [int(part) for part in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        assert y[0, 0].tolist() == [*bounds, 7]


def test_the_box_of_a_zoomed_image_bounds_what_it_shows_to_a_pixel():
    how, target = Augmentation(crop=2, flip=0.5, zoom=0.5), Boxes.of(size=[SIDE, SIDE])
    asked = [5.0, 6.0, 11.0, 9.0]
    drawn = how.draw(40, torch.Generator().manual_seed(0))
    shown = how.applied(block(asked).expand(40, -1, -1, -1), drawn, torch.zeros(1, 1, 1))
    y = how.applied_to_labels(target, torch.tensor([[asked]]).expand(40, -1, -1), drawn, (SIDE, SIDE))
    widths = y[:, 0, 2] - y[:, 0, 0]
    assert widths.min() < 5 and widths.max() > 8 and widths.min() > 6 / 1.5 - 0.01 and widths.max() < 9.01
    for image, box in zip(shown[:, 0], y[:, 0], strict=True):
        rows, columns = (image > 0.5).nonzero(as_tuple=True)
        bounds = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (bounds - box).abs().max() <= 1


def test_what_is_drawn_without_new_changes_is_what_was_drawn_before_there_were_any():
    def drawn(**more: float) -> Tensor:
        return Augmentation(3, 0.5, **more).draw(20, torch.Generator().manual_seed(1))

    assert torch.equal(drawn()[:, :3], drawn(vertical_flip=0.5, zoom=0.2)[:, :3]) and not drawn()[:, 3:].any()


def test_training_labels_follow_their_images_beside_others_and_side_by_side():
    seen: list[tuple[Tensor, Tensor]] = []
    experiment = Experiment.of(Scenario.of("vehicles", TABLES), "finetune", (0, 1))
    stream = experiment.stream("cpu", None)
    net = experiment.build_strategy(stream, None).net

    def loss(params, frozen, x, y, other_x, other_y):
        seen.append((x.detach(), y.detach()))
        seen.append((other_x.detach(), other_y.detach()))
        return net.one(params, x).mean() ** 2

    white = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    white[:, :, 8:14, 4:12] = 255
    rows = white, torch.tensor([4.0, 8, 12, 14]).expand(8, 1, 4).clone()
    kept = tuple(part.expand(2, *part.shape) for part in rows)
    how = Train(batch=8, crop=3, flip=0.5, vertical_flip=0.5)
    beside = [RowsBeside(kept, rehearsed=4)]
    job = FitJob(
        net, net.init([0, 1]), loss, rows, how, [0, 1], step=0, task_id=0, target=stream.target(0), beside=beside
    )
    list(fit(job))
    assert len(seen) == 4
    corners = set()
    for x, y in seen:
        for image, (left, top, right, bottom) in zip(x[:, 0], y[:, 0].long().tolist(), strict=True):
            inside = torch.zeros_like(image, dtype=torch.bool)
            inside[top:bottom, left:right] = True
            assert torch.equal(image > image.mean(), inside)
            corners.add((left, top))
    assert len(corners) > 5


def test_seeds_side_by_side_learn_from_moved_boxes_what_each_learns_alone():
    experiment = Experiment.of(Scenario.of("vehicles", TABLES), "finetune", (0, 1))
    stream = experiment.stream("cpu", None)
    net, target, rows = experiment.build_strategy(stream, None).net, stream.target(0), stream[0].train
    found = []
    for together in (True, False):
        job = FitJob(
            net,
            net.init([0, 1]),
            lambda params, frozen, x, y: target.loss(net.one(params, x), y),
            (rows.x, rows.y),
            Train(batch=4, lr=1e-3, crop=4, flip=0.5, zoom=0.2),
            [0, 1],
            step=0,
            task_id=0,
            target=target,
            side_by_side=together,
        )
        found.append(trained(job))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def trained(job: FitJob) -> Any:
    events = fit(job)
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


TABLES = {
    "stream": {"name": "vehicles", "setting": "domain", "size": 32, "rows": 8, "test_rows": 6, "n": 2},
    "net": {"name": "isometric", "width": 8, "steps": 1, "patch": 4},
    "train": {"epochs": 1, "batch": 4, "optimizer": "adam", "lr": 1e-3, "crop": 4, "vertical_flip": 0.5, "zoom": 0.2},
    "agenda": {"evaluate_ahead": 1},
}
