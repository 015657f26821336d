"""Vehicles on roads and parking places seen straight from above, among trees, roofs and marks; with knobs for domains."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core import rng
from cl_engine.options import OptionGroup, option
from cl_engine.scenes.kept import Rendered, kept

Ground = Literal["grass", "sand", "asphalt", "snow"]
GROUNDS = {
    "grass": (0.30, 0.42, 0.20),
    "sand": (0.66, 0.56, 0.38),
    "asphalt": (0.36, 0.36, 0.38),
    "snow": (0.86, 0.88, 0.92),
}
PAINTS = torch.tensor(
    [
        (0.92, 0.92, 0.92),
        (0.12, 0.12, 0.14),
        (0.55, 0.56, 0.60),
        (0.70, 0.10, 0.10),
        (0.12, 0.22, 0.60),
        (0.75, 0.66, 0.20),
    ]
)
MOST_VEHICLES, TREES, ROOFS = 5, 5, 2
LENGTH, WIDTH = 0.095, 0.044  # half length and width of a vehicle, as shares of the picture's side
SHADOW = torch.tensor([0.018, 0.026])
APART = 0.11  # between the centres of two vehicles side by side
ROAD = 0.13  # half width of a road
EDITION = 1  # of the renderer: pictures of another are not these
AT_ONCE = 64  # pictures
MANY = 3  # vehicles from which a picture's class is the same


class Domain(OptionGroup):
    """How the pictures of a domain look: its place, its light and its sensor. The same seed has the same vehicles in all.

    >>> Domain(light=0.4).values()["light"]
    0.4
    """

    light: float = option(1.0, "from above: factor of brightness", gt=0, le=4)
    contrast: float = option(1.0, "from above: factor of contrast", gt=0, le=4)
    blur: float = option(0.0, "from above: standard deviation of a blur, in pixels", ge=0, le=8)
    ground: Ground = option("grass", "from above: what the ground is")
    warmth: float = option(0.0, "from above: share by which red is more and blue is less", ge=-0.9, le=0.9)
    noise: float = option(0.0, "from above: standard deviation of the sensor's noise, 1: black to white", ge=0, le=1)
    coarse: float = option(1.0, "from above: pixels that the sensor sees as one, along a side", ge=1, le=16)
    clutter: int = option(0, "from above: boxes at most that lie about and are no vehicles", ge=0, le=50)
    shadow: float = option(1.0, "from above: factor of the shadows' length; below 0: to the other side", ge=-4, le=4)
    scale: float = option(1.0, "from above: factor of the size of all that is on the ground", ge=0.25, le=2)

    @property
    def shade(self) -> Tensor:
        """How far shadows are from what casts them, right and down, as shares of the picture's side."""
        return SHADOW * self.shadow * self.scale


def rendered(root: Path | None, domain: Domain, size: int, seed: int, half: str, rows: int) -> Rendered:
    """Return ``picture [N, 3, size, size]``, ``boxes [N, K, 5]`` and ``count [N]`` of a domain, kept under ``root``.

    The first rows are the same however many there are, but for the last few dozen, which are drawn together.
    """
    key = {"view": "aerial", **domain.values(), "size": size, "seed": seed, "half": half, "rows": rows}
    return kept(root, {**key, "edition": EDITION}, partial(_rendered, domain, size, seed, half, rows))


def _rendered(domain: Domain, size: int, seed: int, half: str, rows: int) -> Rendered:
    parts: list[Rendered] = []
    for start in range(0, rows, AT_ONCE):
        found, boxes = pictures(min(AT_ONCE, rows - start), seed, f"{half} {start}", size, domain)
        count = np.minimum(np.count_nonzero(boxes[:, :, 0] >= 0, axis=1), MANY).astype(np.int64)
        parts.append({"picture": found.numpy(), "boxes": boxes, "count": count})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def pictures(n: int, seed: int, purpose: str, size: int, domain: Domain) -> tuple[Tensor, np.ndarray]:
    """Return pictures ``[N, 3, size, size]``, uint8, and boxes of the vehicles ``[N, K, 5]``, −1 for none.

    A box is left, top, right and bottom in pixels, and 0, the one kind there is. The same seed draws the same vehicles for
    every domain.
    """
    random = rng.arrays(seed, "aerial scenes", purpose)
    at = (torch.arange(size) + 0.5) / size
    y, x = (part.reshape(1, -1) for part in torch.meshgrid(at, at, indexing="ij"))
    angle = _column(random.uniform(0, np.pi, n))
    bend = _column(random.uniform(-0.25, 0.25, n))
    centre = _column(random.uniform(0.3, 0.7, n))
    along, across = _turned(x - 0.5, y - centre, angle)
    across = across + bend * along**2
    image = torch.tensor(GROUNDS[domain.ground]).reshape(1, 3, 1) * (
        1 + 0.35 * (_noise(random, n, size) - 0.5)
    ).unsqueeze(1)
    road = ROAD * domain.scale
    image = _over(image, across.abs() < road, torch.tensor([0.30, 0.30, 0.32]))
    dashes = (across.abs() < 0.008) & ((along * 9).floor() % 2 == 0)
    image = _over(image, dashes, torch.tensor([0.85, 0.85, 0.80]))
    image = _roofs(random, image, x, y, n)
    others = rng.arrays(seed, "aerial clutter and noise", purpose)  # so that vehicles do not depend on them
    image = _clutter(others, image, x, y, n, domain)
    image, boxes = _vehicles(random, image, x, y, (angle, bend, centre, road), size, domain)
    image = _trees(random, image, x, y, n, domain)
    image = image + 0.02 * torch.from_numpy(random.standard_normal(image.shape, dtype=np.float32))
    return _seen(image.reshape(n, 3, size, size), domain, others), boxes


def _seen(image: Tensor, domain: Domain, random: np.random.Generator) -> Tensor:
    """Return pictures as the domain shows them, uint8: its light, then its lens and its sensor."""
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = (mean + (image - mean) * domain.contrast) * domain.light
    if domain.warmth:
        image = image * torch.tensor([1 + domain.warmth, 1.0, 1 - domain.warmth]).reshape(3, 1, 1)
    if domain.blur:
        reach = max(1, round(3 * domain.blur))
        weights = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * domain.blur**2))
        kernel = (weights / weights.sum()).expand(3, 1, -1)
        padded = F.pad(image, (reach,) * 4, mode="replicate")
        image = F.conv2d(F.conv2d(padded, kernel.unsqueeze(2), groups=3), kernel.unsqueeze(3), groups=3)
    size = image.shape[2:]
    fewer = [max(1, round(side / domain.coarse)) for side in size]
    if domain.coarse > 1:
        image = F.interpolate(image, fewer, mode="bilinear", align_corners=False, antialias=True)
    if domain.noise:
        noise = random.standard_normal(tuple(image.shape), dtype=np.float32)
        image = image + domain.noise * torch.from_numpy(noise)
    if domain.coarse > 1:
        image = F.interpolate(image, size, mode="bilinear", align_corners=False)
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)


def _vehicles(
    random: np.random.Generator,
    image: Tensor,
    x: Tensor,
    y: Tensor,
    road: tuple[Tensor, Tensor, Tensor, float],
    size: int,
    domain: Domain,
) -> tuple[Tensor, np.ndarray]:
    """Return pictures with vehicles, two in three of them on the road and along it, and their boxes."""
    n = len(image)
    angle, bend, centre, half = road
    wanted = random.integers(0, MOST_VEHICLES + 1, n)
    middles, there = np.full((n, MOST_VEHICLES, 2), np.nan), np.zeros((n, MOST_VEHICLES), dtype=bool)
    boxes = np.full((n, MOST_VEHICLES, 5), -1, dtype=np.float32)
    for k in range(MOST_VEHICLES):
        on_road = random.random(n) < 2 / 3
        s, lane = random.uniform(-0.6, 0.6, n), random.choice([-1, 1], n) * half / 2
        tilt = np.arctan(2 * bend[:, 0].numpy() * s)
        c, d = np.cos(angle[:, 0].numpy()), np.sin(angle[:, 0].numpy())
        off = lane - bend[:, 0].numpy() * s**2
        own = np.stack([0.5 + s * c - off * d, centre[:, 0].numpy() + s * d + off * c], axis=1)
        free = random.uniform(0.08, 0.92, (n, 2))
        middle = np.where(on_road[:, None], own, free)
        turn = np.where(on_road, angle[:, 0].numpy() - tilt, random.uniform(0, np.pi, n))
        clear = (np.hypot(*(middles - middle[:, None]).transpose(2, 0, 1)) > (APART + LENGTH) * domain.scale) | ~there
        fits = clear.all(axis=1) & (k < wanted) & (middle > 0.04).all(axis=1) & (middle < 0.96).all(axis=1)
        middles[fits, k], there[fits, k] = middle[fits], True
        length = LENGTH * random.uniform(0.85, 1.25, n) * domain.scale
        width = WIDTH * random.uniform(0.9, 1.1, n) * domain.scale
        paint = random.integers(0, len(PAINTS), n)
        image = _one_vehicle(image, (x, y), middle, turn, (length, width), paint, fits, domain.shade)
        reach = np.stack(
            [
                length * np.abs(np.cos(turn)) + width * np.abs(np.sin(turn)),
                length * np.abs(np.sin(turn)) + width * np.abs(np.cos(turn)),
            ],
            axis=1,
        )
        corners = np.concatenate([middle - reach, middle + reach], axis=1).clip(0, 1) * size
        boxes[fits, k] = np.concatenate([corners, np.zeros((n, 1))], axis=1)[fits]
    return image, boxes


def _one_vehicle(
    image: Tensor,
    at: tuple[Tensor, Tensor],
    middle: np.ndarray,
    turn: np.ndarray,
    size: tuple[np.ndarray, np.ndarray],
    paint: np.ndarray,
    fits: np.ndarray,
    shade: Tensor,
) -> Tensor:
    """Return pictures with one more vehicle where it ``fits``: its shadow, its body and its windows."""
    place, angle = torch.from_numpy(middle.astype(np.float32)), _column(turn)
    length, width = (_column(part) for part in size)
    shown = torch.from_numpy(fits).unsqueeze(1)

    def inside(shift: Tensor, ends: tuple[float, float] = (-1.0, 1.0), share: float = 1.0) -> Tensor:
        u, v = _turned(at[0] - place[:, :1] - shift[0], at[1] - place[:, 1:] - shift[1], angle)
        return shown & (u >= ends[0] * length) & (u <= ends[1] * length) & (v.abs() <= share * width)

    still = torch.zeros(2)
    image = torch.where(inside(shade).unsqueeze(1), image * 0.55, image)
    image = _over(image, inside(still), PAINTS[torch.from_numpy(paint)].unsqueeze(-1))
    for ends in ((0.25, 0.5), (-0.75, -0.55)):
        image = _over(image, inside(still, ends, 0.8), torch.tensor([0.08, 0.10, 0.14]))
    return image


def _clutter(random: np.random.Generator, image: Tensor, x: Tensor, y: Tensor, n: int, domain: Domain) -> Tensor:
    """Return pictures with boxes that lie about, as many as are drawn for each, of any colour and without windows."""
    wanted = _column(random.integers(0, domain.clutter + 1, n))
    for k in range(domain.clutter):
        place, turn = random.uniform(0, 1, (2, n)), _column(random.uniform(0, np.pi, n))
        half = [_column(random.uniform(0.02, most, n) * domain.scale) for most in (0.09, 0.05)]
        tone = torch.from_numpy(random.uniform(0.1, 0.9, (n, 3, 1)).astype(np.float32))
        for shift, colour in ((domain.shade, image * 0.6), (torch.zeros(2), tone)):
            u, v = _turned(x - _column(place[0]) - shift[0], y - _column(place[1]) - shift[1], turn)
            inside = (k < wanted) & (u.abs() < half[0]) & (v.abs() < half[1])
            image = torch.where(inside.unsqueeze(1), colour, image)
    return image


def _trees(random: np.random.Generator, image: Tensor, x: Tensor, y: Tensor, n: int, domain: Domain) -> Tensor:
    right, down = domain.shade.tolist()
    for _ in range(TREES):
        place, radius = random.uniform(0, 1, (2, n)), _column(random.uniform(0.03, 0.08, n) * domain.scale)
        shown = _column(random.random(n)) < 0.6
        u, v = x - _column(place[0]), y - _column(place[1])
        far = torch.hypot(u, v) / radius
        shade = torch.hypot(u - right, v - down) < radius
        image = torch.where((shown & shade).unsqueeze(1), image * 0.6, image)
        crown = (0.16 + 0.10 * (1 - far.clamp(0, 1)) - 0.5 * (u + v)).unsqueeze(1) * torch.tensor(
            [0.8, 1.5, 0.7]
        ).reshape(1, 3, 1)
        image = torch.where((shown & (far < 1)).unsqueeze(1), crown, image)
    return image


def _roofs(random: np.random.Generator, image: Tensor, x: Tensor, y: Tensor, n: int) -> Tensor:
    for _ in range(ROOFS):
        place, turn = random.uniform(0, 1, (2, n)), _column(random.uniform(0, np.pi, n))
        half = [_column(random.uniform(0.07, 0.16, n)) for _ in range(2)]
        shown = _column(random.random(n)) < 0.5
        u, v = _turned(x - _column(place[0]), y - _column(place[1]), turn)
        inside = shown & (u.abs() < half[0]) & (v.abs() < half[1])
        tone = torch.from_numpy(random.uniform(0.25, 0.6, (n, 3, 1)).astype(np.float32))
        image = torch.where(inside.unsqueeze(1), tone * torch.where(v > 0, 1.0, 0.75).unsqueeze(1), image)
    return image


def _noise(random: np.random.Generator, n: int, size: int) -> Tensor:
    """Return smooth noise ``[N, R]`` between 0 and 1, of two scales."""
    layers = [torch.from_numpy(random.random((n, 1, cells, cells), dtype=np.float32)) for cells in (5, 17)]
    coarse, fine = (
        F.interpolate(layer, (size, size), mode="bilinear", align_corners=True).flatten(1) for layer in layers
    )
    return 0.6 * coarse + 0.4 * fine


def _over(image: Tensor, where: Tensor, colour: Tensor) -> Tensor:
    return torch.where(where.unsqueeze(1), colour if colour.ndim == 3 else colour.reshape(1, 3, 1), image)


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _column(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).unsqueeze(1)
