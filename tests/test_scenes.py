"""Rendered scenes: labels are true of the geometry, and of the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.runs.data_root import DataRoot
from cl_engine.scenes import aerial
from cl_engine.scenes.casting import SURFACES, View, cast, column, in_camera, rays
from cl_engine.scenes.drawing import KINDS, MOST_SOLIDS, Rooms, draw
from cl_engine.scenes.kept import kept
from cl_engine.scenes.shading import picture
from cl_engine.scenes.truths import truths

SIZE = 64


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return draw(48, 3, "test")


@pytest.fixture(scope="module")
def view(rooms: Rooms) -> View:
    return cast(rooms, SIZE)


@pytest.fixture(scope="module")
def true(rooms: Rooms, view: View) -> dict[str, np.ndarray]:
    return truths(rooms, view, SIZE)


def interior(true: dict[str, np.ndarray]) -> np.ndarray:
    """Return which pixels ``[N, H−2, W−2]`` show the same surface, turned the same way, as all around them."""
    flat = np.ones((len(true["instances"]), SIZE - 2, SIZE - 2), dtype=bool)
    normals = true["normals"].astype(np.float32)
    for row in (0, 1, 2):
        for at in (0, 1, 2):
            part = np.s_[:, row : row + SIZE - 2, at : at + SIZE - 2]
            flat &= true["instances"][part] == true["instances"][:, 1:-1, 1:-1]
            near = (normals[np.s_[:, :, row : row + SIZE - 2, at : at + SIZE - 2]] * normals[:, :, 1:-1, 1:-1]).sum(
                axis=1
            )
            flat &= near > 0.9
    return flat


def test_normals_are_those_of_the_surface_that_depth_describes(view: View, true: dict[str, np.ndarray]):
    depth = view.depth.reshape(-1, SIZE, SIZE)
    points = torch.stack([part.reshape(SIZE, SIZE) * depth for part in view.ray], dim=-1).double()
    right, down = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normal = torch.nn.functional.normalize(torch.linalg.cross(right, down), dim=-1)
    normal[..., 2] *= -1  # z towards the camera
    given = torch.from_numpy(true["normals"][:, :, 1:-1, 1:-1]).double().permute(0, 2, 3, 1)
    angle = (normal * given).sum(dim=-1).abs().clamp(0, 1).acos().rad2deg()[torch.from_numpy(interior(true))]
    assert angle.median() < 0.2
    assert angle.quantile(0.99) < 6  # round solids bend between the neighbours of a pixel
    assert (true["normals"][:, 2] > -0.75).all()  # what is seen is turned to the camera


def test_curvature_of_spheres_is_one_over_their_radius_and_flat_is_flat(rooms: Rooms, true: dict[str, np.ndarray]):
    curvature, instances = true["curvature"].astype(np.float32), true["instances"]
    assert not curvature[:, :, :][np.broadcast_to(instances[:, None] == 0, curvature.shape)].any()
    seen = 0
    for n, k in np.argwhere(rooms.kind == KINDS.index("sphere")):
        bent = curvature[n][:, instances[n] == k + 1]
        seen += bent.size
        assert bent == pytest.approx(1 / rooms.size[n, k, 0], rel=2e-3)
    assert seen


def test_boxes_bound_what_the_instance_map_shows_and_counts_agree(true: dict[str, np.ndarray]):
    for boxes, instances, count in zip(true["boxes"], true["instances"], true["count"], strict=True):
        there = np.flatnonzero(boxes[:, 0] >= 0)
        assert len(there) == count + 1
        for k in there:
            y, x = np.nonzero(instances == k + 1)
            assert boxes[k, :4].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_segmentation_names_the_kind_of_the_solid_that_is_seen(rooms: Rooms, true: dict[str, np.ndarray]):
    for n, (surface, instances) in enumerate(zip(true["segmentation"], true["instances"], strict=True)):
        for k in range(MOST_SOLIDS):
            assert (surface[instances == k + 1] == SURFACES + rooms.kind[n, k]).all()
        assert (surface[instances == 0] < SURFACES).all()


def test_the_floor_is_seen_below_the_horizon_and_at_the_height_of_the_camera(rooms: Rooms, view: View):
    assert view.point.y[view.surface == 0].abs().max() < 1e-4
    assert (view.point.y >= -1e-4).all() and (view.depth > 0).all()
    far = (
        in_camera(view.point, column(rooms.yaw), column(rooms.pitch)).z
        - in_camera(
            type(view.point)(*(torch.from_numpy(rooms.eye[:, axis : axis + 1]).float() for axis in range(3))),
            column(rooms.yaw),
            column(rooms.pitch),
        ).z
    )
    torch.testing.assert_close(far, view.depth, atol=1e-4, rtol=1e-4)


def test_occlusion_edges_lie_where_depth_jumps(view: View, true: dict[str, np.ndarray]):
    depth, edge = view.depth.reshape(-1, SIZE, SIZE).numpy(), true["occlusion"].astype(bool)
    steps = np.abs(np.diff(depth, axis=2))
    jump = np.zeros_like(depth)
    jump[:, :, 1:] = steps
    jump[:, :, :-1] = np.maximum(jump[:, :, :-1], steps)
    jump[:, 1:] = np.maximum(jump[:, 1:], np.abs(np.diff(depth, axis=1)))
    jump[:, :-1] = np.maximum(jump[:, :-1], np.abs(np.diff(depth, axis=1)))
    assert 0.005 < edge.mean() < 0.2
    assert (jump[edge] > 0.15).all()


def test_axes_of_the_room_are_directions_at_right_angles(true: dict[str, np.ndarray]):
    axes = true["vanishing"].reshape(-1, 3, 3)
    assert axes @ axes.transpose(0, 2, 1) == pytest.approx(np.broadcast_to(np.eye(3), axes.shape), abs=1e-5)


def test_keypoints_are_at_corners_where_normals_meet(true: dict[str, np.ndarray]):
    assert 0.9 < true["keypoints"].max() <= 1
    assert (true["keypoints"].reshape(len(true["pose"]), -1).max(axis=1) > 0.5).mean() > 0.9


def test_a_picture_does_not_depend_on_the_pictures_rendered_with_it(rooms: Rooms, view: View):
    alone = rooms.part(5, 6)
    assert torch.equal(picture(alone, cast(alone, SIZE), SIZE)[0], picture(rooms, view, SIZE)[5])


def test_what_is_behind_a_solid_from_the_lamp_is_dark(view: View):
    lit = view.lit[view.surface == 0].float().mean()
    assert 0.3 < lit < 0.98


def test_pixels_look_ahead_and_those_on_the_right_to_the_right():
    seen = rays(4)
    assert seen.x.reshape(4, 4)[0].diff().min() > 0 and seen.y.reshape(4, 4)[:, 0].diff().max() < 0


@pytest.mark.parametrize(("asked", "classes"), [("shape", 4), ("colour", 8), ("count", 6)])
def test_the_source_has_the_classes_asked_for(tmp_path: Path, asked: str, classes: int):
    arrays = DataRoot(tmp_path).load(f"scenes?size=32&rows=300&test_rows=200&asked={asked}")
    assert arrays.classes == classes and arrays.train_x.shape == (300, 3, 32, 32)
    assert np.array_equal(arrays.train_y, arrays.labels[asked].train)
    assert not np.array_equal(arrays.train_x[:200], arrays.test_x)


def test_every_labelling_of_a_source_fits_its_target(tmp_path: Path):
    for name in ("scenes?size=32&rows=16&test_rows=16", "scenes?view=aerial&size=32&rows=16&test_rows=16"):
        arrays = plugins.source(name).load(tmp_path)
        for label, labels in arrays.labels.items():
            target = plugins.load("targets", labels.target).of(**labels.options)
            for y in (labels.train, labels.test):
                assert len(y) == 16 and target.fault(np.asarray(y)) == "", label


def test_pictures_are_rendered_once_and_again_where_they_are_damaged(tmp_path: Path):
    rendered = []

    def render() -> dict[str, np.ndarray]:
        rendered.append(1)
        return {"picture": np.arange(6).reshape(2, 3)}

    first, again = (kept(tmp_path, {"seed": 0}, render) for _ in range(2))
    assert len(rendered) == 1 and np.array_equal(first["picture"], again["picture"])
    file = next(tmp_path.rglob("picture.npy"))
    file.write_bytes(file.read_bytes()[:-4])
    assert np.array_equal(kept(tmp_path, {"seed": 0}, render)["picture"], first["picture"]) and len(rendered) == 2
    assert kept(tmp_path, {"seed": 1}, render) and len(rendered) == 3


def test_where_nothing_can_be_kept_pictures_are_rendered_all_the_same(tmp_path: Path):
    (tmp_path / "scenes").write_text("a file where a folder should be")
    assert kept(tmp_path, {}, lambda: {"picture": np.zeros(3)})["picture"].shape == (3,)


def test_domains_from_above_show_the_same_vehicles_in_another_light():
    plain, boxes = aerial.pictures(16, 0, "train", SIZE, aerial.Domain())
    dark, same = aerial.pictures(16, 0, "train", SIZE, aerial.Domain(light=0.4, blur=1.0, ground="sand"))
    assert np.array_equal(boxes, same) and (boxes[..., 0] >= 0).any()
    assert dark.float().mean() < 0.6 * plain.float().mean()


def test_vehicles_differ_from_the_ground_around_them():
    pictures, boxes = aerial.pictures(64, 1, "train", SIZE, aerial.Domain(ground="snow"))
    differences = []
    for image, found in zip(pictures.float(), boxes, strict=True):
        for left, top, right, bottom, _ in found[found[:, 0] >= 0].round().astype(int):
            inside = image[:, top:bottom, left:right].flatten(1)
            differences.append((inside.std(dim=1)).mean().item())
    assert np.mean(differences) > 25


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scenes?size=20", "size"),
        ("scenes?sise=64", "did you mean"),
        ("scenes?aerial", "KEY=VALUE"),
        ("scenes?ground=mud&view=aerial", "ground"),
    ],
)
def test_options_of_a_source_that_cannot_be_are_refused_in_a_sentence(name: str, words: str):
    with pytest.raises(UsageError, match=words):
        plugins.source(name)
