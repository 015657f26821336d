"""What a camera in a room sees: the first surface along the ray of every pixel, and whether the lamp reaches it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_engine.scenes.drawing import FIELD_OF_VIEW, Rooms
from cl_engine.scenes.solids import SOLIDS, Vector

FLOOR, WALL, CEILING = 0, 1, 2  # surfaces of a room; the solids' numbers follow, in the order of their kinds
SURFACES = 3


@dataclass(frozen=True, eq=False)
class View:
    """What the pixels of ``N`` pictures show, each tensor ``[N, R]`` over the ``R = size²`` pixels, row by row.

    >>> from cl_engine.scenes.drawing import draw
    >>> view = cast(draw(2, 0, "train"), size=8)
    >>> view.depth.shape, bool((view.depth > 0).all())
    (torch.Size([2, 64]), True)

    Attributes:
        ray: directions of the pixels in the camera's frame (x right, y up, z ahead), ``[R]`` each; their z is 1.
        depth: distance along the camera's axis, in metres.
        surface: what is seen: floor, wall, ceiling, or 3 + the kind of the solid.
        solid: number of the solid seen; −1: the room.
        normal: unit normals in the room's frame.
        curvature: the two principal curvatures, in 1/m.
        point: places in the room.
        lit: whether the lamp reaches the place.
    """

    ray: Vector
    depth: Tensor
    surface: Tensor
    solid: Tensor
    normal: Vector
    curvature: tuple[Tensor, Tensor]
    point: Vector
    lit: Tensor


def rays(size: int) -> Vector:
    """Return the directions of the pixels' centres in the camera's frame, ``[size²]`` a component; z is 1 throughout."""
    across = ((torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1) * math.tan(
        math.radians(FIELD_OF_VIEW / 2)
    )
    x, y = across.repeat(size), -across.repeat_interleave(size)
    return Vector(x, y, torch.ones_like(x))


def in_room(v: Vector, yaw: Tensor, pitch: Tensor) -> Vector:
    """Return directions of the camera's frame in the room's; angles ``[N, 1]``."""
    up, ahead = v.y * pitch.cos() + v.z * pitch.sin(), v.z * pitch.cos() - v.y * pitch.sin()
    return Vector(v.x * yaw.cos() + ahead * yaw.sin(), up, ahead * yaw.cos() - v.x * yaw.sin())


def in_camera(v: Vector, yaw: Tensor, pitch: Tensor) -> Vector:
    """Return directions of the room's frame in the camera's; angles ``[N, 1]``."""
    x, ahead = v.x * yaw.cos() - v.z * yaw.sin(), v.x * yaw.sin() + v.z * yaw.cos()
    return Vector(x, v.y * pitch.cos() - ahead * pitch.sin(), v.y * pitch.sin() + ahead * pitch.cos())


def columns(values: np.ndarray) -> Vector:
    """Return vectors ``[N, 3]`` as components ``[N, 1]``."""
    return Vector(*torch.from_numpy(values.astype(np.float32)).unsqueeze(-1).unbind(1))


def column(values: np.ndarray) -> Tensor:
    """Return numbers ``[N]`` as a column ``[N, 1]``, float32."""
    return torch.from_numpy(values.astype(np.float32)).unsqueeze(-1)


def cast(rooms: Rooms, size: int) -> View:
    """Return what pictures of ``size`` × ``size`` pixels show of these rooms."""
    seen, yaw, pitch = rays(size), column(rooms.yaw), column(rooms.pitch)
    eye, direction = columns(rooms.eye), in_room(seen, yaw, pitch)
    depth, normal, surface = _room(eye, direction, rooms)
    solid = torch.full_like(surface, -1)
    bent = torch.zeros_like(depth), torch.zeros_like(depth)
    for k, kind, index in _by_kind(rooms):
        turn, sizes = _frame(rooms, k, index)
        start = _local(eye, rooms, k, index, turn, origin=True)
        hit = SOLIDS[kind](start, _local(direction, rooms, k, index, turn), *sizes)
        nearer = hit.t < depth[index]
        for target, found in (
            (depth, hit.t),
            (surface, torch.full_like(surface[index], SURFACES + kind)),
            (solid, torch.full_like(solid[index], k)),
            *zip(normal, _turned(hit.normal, -turn), strict=True),
            *zip(bent, hit.curvature, strict=True),
        ):
            target[index] = torch.where(nearer, found, target[index])
    point = eye.at(direction, depth)
    return View(seen, depth, surface, solid, normal, bent, point, _lit(rooms, point, normal))


def _room(eye: Vector, direction: Vector, rooms: Rooms) -> tuple[Tensor, Vector, Tensor]:
    """Return where rays leave the room: distance, normal inwards, and which of its surfaces."""
    low, high = columns(rooms.low), columns(rooms.high)
    sides = zip(eye, direction, low, high, strict=True)
    leaves = [torch.where(step > 0, most - start, least - start) / step for start, step, least, most in sides]
    t = torch.minimum(torch.minimum(leaves[0], leaves[1]), leaves[2])
    flat = torch.zeros_like(t)
    normal = Vector(
        *(torch.where(t == leave, -torch.sign(d), flat) for leave, d in zip(leaves, direction, strict=True))
    )
    surface = torch.where(normal.y > 0, FLOOR, torch.where(normal.y < 0, CEILING, WALL))
    return t, normal, surface


def _lit(rooms: Rooms, point: Vector, normal: Vector) -> Tensor:
    """Return whether the lamp reaches places: it is on their side, and no solid stands between."""
    lamp = columns(rooms.lamp)
    towards = Vector(*(to - at for to, at in zip(lamp, point, strict=True)))
    lit = normal.dot(towards) > 0
    lifted = Vector(*(at + 2e-3 * up for at, up in zip(point, normal, strict=True)))
    for k, kind, index in _by_kind(rooms):
        turn, sizes = _frame(rooms, k, index)
        start = _local(lifted, rooms, k, index, turn, origin=True)
        lit[index] &= SOLIDS[kind](start, _local(towards, rooms, k, index, turn), *sizes).t >= 1
    return lit


def _by_kind(rooms: Rooms) -> Iterator[tuple[int, int, Tensor]]:
    """Yield the number of a solid, a kind, and the pictures whose solid of this number is of the kind."""
    for k in range(rooms.kind.shape[1]):
        for kind in range(len(SOLIDS)):
            index = np.flatnonzero(rooms.kind[:, k] == kind)
            if len(index):
                yield k, kind, torch.from_numpy(index)


def _frame(rooms: Rooms, k: int, index: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return the turn of solids, and their sizes."""
    sizes = columns(rooms.size[index.numpy(), k])
    return column(rooms.turn[index.numpy(), k]), (sizes.x, sizes.y, sizes.z)


def _local(v: Vector, rooms: Rooms, k: int, index: Tensor, turn: Tensor, origin: bool = False) -> Vector:
    """Return places (``origin``) or directions of the room in the frames of solids."""
    own = Vector(*(part[index] for part in v))
    if origin:
        foot = torch.from_numpy(rooms.foot[index.numpy(), k].astype(np.float32))
        own = Vector(own.x - foot[:, :1], own.y, own.z - foot[:, 1:])
    return _turned(own, turn)


def _turned(v: Vector, angle: Tensor) -> Vector:
    """Return vectors turned about the vertical."""
    return Vector(v.x * angle.cos() - v.z * angle.sin(), v.y, v.x * angle.sin() + v.z * angle.cos())
