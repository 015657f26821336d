"""The look of rooms: patterns of floors, the lamp's light, shadows and highlights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cl_engine.scenes.casting import CEILING, FLOOR, View, column, columns
from cl_engine.scenes.drawing import COLOURS, Rooms
from cl_engine.scenes.solids import Vector

AMBIENT, DIFFUSE, HIGHLIGHT, SHININESS = 0.38, 0.75, 0.25, 24.0


def picture(rooms: Rooms, view: View, size: int) -> Tensor:
    """Return pictures ``[N, 3, size, size]``, uint8, of what a view shows."""
    lamp, eye = columns(rooms.lamp), columns(rooms.eye)
    to_lamp, to_eye = (_unit(Vector(*(a - b for a, b in zip(v, view.point, strict=True)))) for v in (lamp, eye))
    falls = (view.normal.dot(to_lamp).clamp_min(0) * view.lit).unsqueeze(1)
    halfway = _unit(Vector(*(a + b for a, b in zip(to_lamp, to_eye, strict=True))))
    shines = view.normal.dot(halfway).clamp_min(0) ** SHININESS * (view.solid >= 0) * view.lit
    light = _albedo(rooms, view) * (AMBIENT + DIFFUSE * falls) + HIGHLIGHT * shines.unsqueeze(1)
    return light.clamp(0, 1).mul_(255).round_().to(torch.uint8).reshape(len(rooms), 3, size, size)


def _albedo(rooms: Rooms, view: View) -> Tensor:
    """Return the colours of surfaces, ``[N, 3, R]``."""
    walls = torch.from_numpy(rooms.walls).float().unsqueeze(-1)
    floor = torch.from_numpy(rooms.floor).float()
    share = _pattern(rooms, view).unsqueeze(1)
    colour = torch.where(
        (view.surface == FLOOR).unsqueeze(1), floor[:, 0, :, None].lerp(floor[:, 1, :, None], share), walls
    )
    colour = torch.where((view.surface == CEILING).unsqueeze(1), (walls + 1) / 2, colour)
    table = torch.tensor(list(COLOURS.values()))
    solids = table[torch.from_numpy(rooms.colour)] * torch.from_numpy(rooms.shade).float().unsqueeze(-1)  # [N, K, 3]
    number = view.solid.clamp_min(0).unsqueeze(-1).expand(-1, -1, 3)
    return torch.where((view.solid >= 0).unsqueeze(1), solids.gather(1, number).transpose(1, 2), colour)


def _pattern(rooms: Rooms, view: View) -> Tensor:
    """Return the share of the floor's second colour, ``[N, R]``."""
    x, z = (part / column(rooms.grain) for part in (view.point.x, view.point.z))
    kinds = (
        (x.floor() + z.floor()) % 2,
        ((x * 1.5).floor() % 2) * 0.7 + 0.3 * ((z / 3).floor() % 2),
        (torch.hypot(x, z) * 1.5).floor() % 2,
        0.5 + 0.5 * torch.sin(2 * math.pi * (x + 0.3 * torch.sin(2 * z))),
    )
    pattern = torch.from_numpy(rooms.pattern).unsqueeze(-1)
    share = torch.zeros_like(x)
    for number, values in enumerate(kinds):
        share = torch.where(pattern == number, values, share)
    return share


def _unit(v: Vector) -> Vector:
    length = v.dot(v).clamp_min(1e-12).rsqrt()
    return Vector(*(part * length for part in v))
