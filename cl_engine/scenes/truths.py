"""What is true of a picture of a room: maps, boxes, classes and numbers, computed from the geometry that it was cast from."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.scenes.casting import SURFACES, View, column, columns, in_camera
from cl_engine.scenes.drawing import FIELD_OF_VIEW, KINDS, MOST_SOLIDS, Rooms
from cl_engine.scenes.solids import Vector

VISIBLE = 10 / 64**2  # share of a picture's pixels from which a solid counts as seen
JUMP = 0.15  # metres between the two sides of an occlusion edge
BLOB = 1.2 / 64  # standard deviation of a keypoint's blob, as a share of the picture's side


def truths(rooms: Rooms, view: View, size: int) -> dict[str, np.ndarray]:
    """Return the labels of ``N`` pictures by name; those that are not a class a picture, number or box are maps.

    - ``depth [N, 1, H, W]``: distance along the camera's axis, metres.
    - ``normals [N, 3, H, W]``: unit normals in the camera's frame: x right, y up, z towards the camera.
    - ``curvature [N, 2, H, W]``: principal curvatures, 1/m, the greater first.
    - ``reshading [N, 1, H, W]``: shading by a lamp in the camera: the cosine between normal and line of sight.
    - ``keypoints [N, 1, H, W]``: blobs of height 1 at the corners of solids, tips of cones and corners of the room in sight.
    - ``segmentation [N, H, W]``: floor, wall, ceiling, sphere, box, cylinder, cone.
    - ``instances [N, H, W]``: 0 for the room, 1 … for each solid.
    - ``occlusion [N, H, W]``: 1 on the nearer side of edges where a solid hides what is behind it.
    - ``boxes [N, K, 5]``: left, top, right, bottom in pixels, and the kind, of each solid in sight; −1 for none.
    - ``count``, ``shape``, ``colour [N]``: solids in sight less one; kind and colour of the one that shows most.
    - ``pose [N, 2]``: the camera's yaw and pitch, radians.
    - ``layout [N, 5]``: distances from the camera to the left, right and far wall, floor and ceiling, metres.
    - ``vanishing [N, 9]``: directions of the room's three axes in the camera's frame, whose images are its vanishing points.
    """
    yaw, pitch = column(rooms.yaw), column(rooms.pitch)
    normal = in_camera(view.normal, yaw, pitch)
    normal = Vector(normal.x, normal.y, -normal.z)

    def maps(*channels: Tensor) -> np.ndarray:
        return torch.stack(channels, dim=1).reshape(len(rooms), -1, size, size).numpy().astype(np.float16)

    sight = view.ray.dot(view.ray).rsqrt()
    facing = (normal.z - normal.x * view.ray.x - normal.y * view.ray.y) * sight
    solid = view.solid.reshape(-1, size, size)
    depth = view.depth.reshape(-1, size, size)
    boxes, shown = _boxes(solid, rooms)
    most = shown.argmax(axis=1)
    own = np.arange(len(rooms))
    low, high = rooms.low - rooms.eye, rooms.high - rooms.eye
    axes = [in_camera(Vector(*torch.eye(3)[axis].reshape(3, 1, 1)), yaw, pitch) for axis in range(3)]
    return {
        "depth": maps(view.depth),
        "normals": maps(*normal),
        "curvature": maps(*view.curvature),
        "reshading": maps(facing.clamp(0, 1)),
        "keypoints": _keypoints(rooms, depth, size).numpy().astype(np.float16),
        "segmentation": view.surface.reshape(-1, size, size).numpy().astype(np.uint8),
        "instances": (solid + 1).numpy().astype(np.uint8),
        "occlusion": _occlusion(solid, depth).numpy().astype(np.uint8),
        "boxes": boxes,
        "count": np.count_nonzero(shown, axis=1).astype(np.int64) - 1,
        "shape": rooms.kind[own, most],
        "colour": rooms.colour[own, most],
        "pose": np.stack([rooms.yaw, rooms.pitch], axis=1).astype(np.float32),
        "layout": np.stack([-low[:, 0], high[:, 0], high[:, 2], -low[:, 1], high[:, 1]], axis=1).astype(np.float32),
        "vanishing": torch.cat([part.reshape(-1, 1) for axis in axes for part in axis], dim=1).numpy(),
    }


CLASSES = {"count": MOST_SOLIDS, "shape": len(KINDS), "colour": 8, "segmentation": SURFACES + len(KINDS)}
CLASSES |= {"instances": MOST_SOLIDS + 1, "occlusion": 2}


def _boxes(solid: Tensor, rooms: Rooms) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes ``[N, K, 5]`` of the solids in sight, and how many pixels each shows ``[N, K]``, 0 below what counts."""
    size = solid.shape[-1]
    number = torch.arange(MOST_SOLIDS).reshape(1, -1, 1, 1)
    here = solid.unsqueeze(1) == number  # [N, K, H, W]
    shown = here.sum(dim=(2, 3))
    shown[shown < VISIBLE * size**2] = 0
    edges = []
    for along in (2, 3):
        line = here.any(dim=along).to(torch.uint8)
        edges += [line.argmax(dim=2), size - line.flip(2).argmax(dim=2)]
    left, right, top, bottom = edges
    boxes = torch.stack([left, top, right, bottom, torch.from_numpy(rooms.kind)], dim=2).float()
    return torch.where((shown > 0).unsqueeze(-1), boxes, -1.0).numpy(), shown.numpy()


def _occlusion(solid: Tensor, depth: Tensor) -> Tensor:
    """Return where a neighbour belongs to something else and is farther away by more than `JUMP`, ``[N, H, W]``."""
    padded, number = (F.pad(part.float().unsqueeze(1), (1, 1, 1, 1), mode="replicate") for part in (depth, solid))
    edge = torch.zeros_like(solid, dtype=torch.bool)
    size = depth.shape[-1]
    for row, at in ((0, 1), (2, 1), (1, 0), (1, 2)):
        part = (slice(None), 0, slice(row, row + size), slice(at, at + size))
        edge |= (number[part] != solid) & (padded[part] - depth > JUMP)
    return edge


def _keypoints(rooms: Rooms, depth: Tensor, size: int) -> Tensor:
    """Return blobs ``[N, 1, H, W]`` at the corners and tips in sight."""
    x, y, far = _projected(_corners(rooms), rooms, size)
    at, inside = [], torch.isfinite(far) & (far > 0)
    for place in (y, x):
        pixel = place.floor()
        inside &= (pixel >= 0) & (pixel < size)
        at.append(pixel.nan_to_num(0, 0, 0).long().clamp(0, size - 1))
    around = F.max_pool2d(depth.unsqueeze(1), 3, stride=1, padding=1).flatten(1)
    seen = inside & (far <= around.gather(1, at[0] * size + at[1]) + 0.05)
    picture, _ = torch.nonzero(seen, as_tuple=True)
    reach = math.ceil(3 * BLOB * size)
    near = torch.arange(-reach, reach + 1)
    rows, cols = (part[seen][:, None] + near for part in at)
    falls = [
        torch.exp(-((p + 0.5 - place[seen][:, None]) ** 2) / (2 * (BLOB * size) ** 2))
        for p, place in ((rows, y), (cols, x))
    ]
    blob = falls[0][:, :, None] * falls[1][:, None, :]
    within = ((rows >= 0) & (rows < size))[:, :, None] & ((cols >= 0) & (cols < size))[:, None, :]
    index = picture[:, None, None] * size**2 + rows[:, :, None] * size + cols[:, None, :]
    drawn = torch.zeros(len(rooms) * size**2)
    drawn.scatter_reduce_(0, index[within], blob[within], "amax")
    return drawn.reshape(-1, 1, size, size)


def _corners(rooms: Rooms) -> np.ndarray:
    """Return corners of boxes, tips of cones and corners of the rooms, ``[N, P, 3]``; NaN where there is none."""
    n = len(rooms)
    signs = np.stack(np.meshgrid([-1, 1], [0, 1], [-1, 1], indexing="ij"), axis=-1).reshape(8, 3)
    local = signs * rooms.size[:, :, None]  # [N, K, 8, 3]
    cos, sin = np.cos(rooms.turn)[..., None], np.sin(rooms.turn)[..., None]
    turned = [local[..., 0] * cos + local[..., 2] * sin, local[..., 1], local[..., 2] * cos - local[..., 0] * sin]
    boxes = np.stack(turned, axis=-1) + np.insert(rooms.foot, 1, 0, axis=2)[:, :, None]
    boxes[rooms.kind != KINDS.index("box")] = np.nan
    tips = np.stack([rooms.foot[..., 0], rooms.size[..., 1], rooms.foot[..., 1]], axis=-1)
    tips[rooms.kind != KINDS.index("cone")] = np.nan
    room = np.where(signs > 0, rooms.high[:, None], rooms.low[:, None])
    return np.concatenate([boxes.reshape(n, -1, 3), tips, room], axis=1)


def _projected(points: np.ndarray, rooms: Rooms, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return where places ``[N, P, 3]`` are in the picture, in pixels, and their depth; ``[N, P]`` each."""
    eye = columns(rooms.eye)
    away = Vector(*(torch.from_numpy(points[..., axis]).float() - eye[axis] for axis in range(3)))
    v = in_camera(away, column(rooms.yaw), column(rooms.pitch))
    scale = size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    return size / 2 + scale * v.x / v.z, size / 2 - scale * v.y / v.z, v.z
