"""Where rays first meet a solid: spheres, boxes, cylinders and cones that stand on the ground, in frames of their own.

A frame has its origin where the solid stands and its y axis upwards. All functions are given components of origins and
directions that broadcast to the same shape ``[M, R]`` (``M`` solids, ``R`` rays) and sizes ``[M, 1]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

NEAR = 1e-3  # metres: what is nearer than this is the surface that a ray leaves from
SHARPEST = 20.0  # 1/m: a cone's curvature grows without bound towards its tip


class Vector(NamedTuple):
    """Three components, each a tensor.

    >>> Vector(torch.ones(2), torch.zeros(2), torch.zeros(2)).dot(Vector(torch.ones(2), torch.ones(2), torch.ones(2)))
    tensor([1., 1.])
    """

    x: Tensor
    y: Tensor
    z: Tensor

    def dot(self, other: Vector) -> Tensor:
        """Return the product, summed over the components."""
        return self.x * other.x + self.y * other.y + self.z * other.z

    def at(self, other: Vector, t: Tensor) -> Vector:
        """Return the points ``self + t other``."""
        return Vector(*(a + t * b for a, b in zip(self, other, strict=True)))


class Hit(NamedTuple):
    """First meetings: distance in lengths of the direction (inf: none), unit normal, two principal curvatures in 1/m.

    >>> at = Vector(*torch.tensor([[0.0], [1.0], [-3.0]]))
    >>> ahead = Vector(*torch.tensor([[0.0], [0.0], [1.0]]))
    >>> sphere(at, ahead, *torch.ones(3, 1)).t
    tensor([2.])
    """

    t: Tensor
    normal: Vector
    curvature: tuple[Tensor, Tensor]


def sphere(o: Vector, d: Vector, radius: Tensor, height: Tensor, depth: Tensor) -> Hit:
    """Return where rays meet a sphere that rests on the ground; all but its radius is ignored."""
    from_centre = o._replace(y=o.y - radius)
    t = _root(d.dot(d), from_centre.dot(d), from_centre.dot(from_centre) - radius**2)
    normal = Vector(*(c / radius for c in from_centre.at(d, t)))
    bent = (1 / radius).expand_as(t)
    return Hit(t, normal, (bent, bent))


def box(o: Vector, d: Vector, width: Tensor, height: Tensor, depth: Tensor) -> Hit:
    """Return where rays meet a box of half ``width`` and ``depth`` (the method of slabs)."""
    sides = (o.x, d.x, width), (o.y - height / 2, d.y, height / 2), (o.z, d.z, depth)
    enters, leaves = [], []
    for start, step, half in sides:
        one, two = (-half - start) / step, (half - start) / step
        enters.append(torch.minimum(one, two))
        leaves.append(torch.maximum(one, two))
    t = torch.maximum(torch.maximum(enters[0], enters[1]), enters[2])
    end = torch.minimum(torch.minimum(leaves[0], leaves[1]), leaves[2])
    flat = torch.zeros_like(t)
    normal = [
        torch.where(t == enter, -torch.sign(step), flat) for enter, (_, step, _) in zip(enters, sides, strict=True)
    ]
    normal[1] = torch.where(normal[0] != 0, flat, normal[1])  # on an edge, one side alone
    normal[2] = torch.where((normal[0] != 0) | (normal[1] != 0), flat, normal[2])
    return Hit(torch.where((t <= end) & (t > NEAR), t, torch.inf), Vector(*normal), (flat, flat))


def cylinder(o: Vector, d: Vector, radius: Tensor, height: Tensor, depth: Tensor) -> Hit:
    """Return where rays meet an upright cylinder: its side, or its top."""
    t = _root(d.x**2 + d.z**2, o.x * d.x + o.z * d.z, o.x**2 + o.z**2 - radius**2)
    y = o.y + t * d.y
    side = torch.where((y >= 0) & (y <= height), t, torch.inf)
    top = (height - o.y) / d.y
    within = (o.x + top * d.x) ** 2 + (o.z + top * d.z) ** 2 <= radius**2
    top = torch.where(within & (top > NEAR), top, torch.inf)
    on_side, flat = side <= top, torch.zeros_like(side)
    point = o.at(d, torch.where(on_side, side, flat))
    normal = Vector(
        torch.where(on_side, point.x / radius, flat),
        torch.where(on_side, flat, 1.0),
        torch.where(on_side, point.z / radius, flat),
    )
    return Hit(torch.minimum(side, top), normal, (torch.where(on_side, 1 / radius, flat), flat))


def cone(o: Vector, d: Vector, radius: Tensor, height: Tensor, depth: Tensor) -> Hit:
    """Return where rays meet an upright cone of this ``radius`` on the ground."""
    slope = (radius / height) ** 2
    down = o.y - height
    t = _root(
        d.x**2 + d.z**2 - slope * d.y**2,
        o.x * d.x + o.z * d.z - slope * down * d.y,
        o.x**2 + o.z**2 - slope * down**2,
        lambda t: (o.y + t * d.y >= 0) & (o.y + t * d.y <= height),
    )
    point = o.at(d, torch.where(torch.isfinite(t), t, 0.0))
    across = torch.hypot(point.x, point.z).clamp_min(1e-6)
    slant = torch.hypot(radius, height)
    normal = Vector(point.x / across * height / slant, (radius / slant).expand_as(t), point.z / across * height / slant)
    return Hit(t, normal, ((height / slant / across).clamp_max(SHARPEST), torch.zeros_like(t)))


SOLIDS: tuple[Callable[[Vector, Vector, Tensor, Tensor, Tensor], Hit], ...] = (sphere, box, cylinder, cone)


def _root(a: Tensor, b: Tensor, c: Tensor, allowed: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return the smallest t > `NEAR` of a t² + 2 b t + c = 0 that is ``allowed``, inf where there is none."""
    inside = b * b - a * c
    root = inside.clamp_min(0).sqrt()
    found = torch.full_like(inside, torch.inf)
    for t in ((-b - root) / a, (-b + root) / a):
        good = (inside >= 0) & (t > NEAR)
        if allowed is not None:
            good &= allowed(t)
        found = torch.where(good & (t < found), t, found)
    return found
