"""What stands in a room, where the camera and the lamp are: numbers drawn from a seed, for many pictures at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cl_engine.core import rng

KINDS = ("sphere", "box", "cylinder", "cone")
COLOURS = {
    "red": (0.80, 0.12, 0.10),
    "orange": (0.90, 0.48, 0.08),
    "yellow": (0.88, 0.80, 0.12),
    "green": (0.15, 0.60, 0.18),
    "cyan": (0.12, 0.68, 0.70),
    "blue": (0.12, 0.25, 0.80),
    "purple": (0.50, 0.16, 0.66),
    "white": (0.85, 0.85, 0.85),
}
MOST_SOLIDS = 6
FIELD_OF_VIEW = 64.0  # degrees, from side to side
TRIES = 24  # places tried for a solid before it is left out
APART = 0.08  # metres between two solids, and between a solid and a wall


@dataclass(frozen=True, eq=False)
class Rooms:
    """Scenes of ``N`` pictures: a room each, its solids, a camera and a lamp. Lengths in metres, angles in radians.

    The y axis points up and the floor is y = 0; a camera of yaw 0 looks along z.

    >>> rooms = draw(3, 0, "train")
    >>> rooms.kind.shape, bool((rooms.kind[:, 0] >= 0).all())
    ((3, 6), True)

    Attributes:
        low, high: corners of the room ``[N, 3]``.
        eye: place of the camera ``[N, 3]``.
        yaw, pitch: where the camera looks ``[N]``; a positive yaw is to the right, a positive pitch upwards.
        lamp: place of the lamp ``[N, 3]``.
        kind: which of `KINDS` each solid is ``[N, K]``; −1: there is none.
        foot: where it stands on the floor, x and z ``[N, K, 2]``.
        size: half width (or radius), height and half depth ``[N, K, 3]``.
        turn: rotation about the vertical ``[N, K]``.
        colour: which of `COLOURS` it has ``[N, K]``.
        shade: factor of its colour ``[N, K]``.
        walls, floor: colours ``[N, 3]`` and ``[N, 2, 3]``, the floor's two.
        pattern: of the floor ``[N]``: 0 checks, 1 planks, 2 rings, 3 waves.
        grain: lengths of the pattern ``[N]``.
    """

    low: np.ndarray
    high: np.ndarray
    eye: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    lamp: np.ndarray
    kind: np.ndarray
    foot: np.ndarray
    size: np.ndarray
    turn: np.ndarray
    colour: np.ndarray
    shade: np.ndarray
    walls: np.ndarray
    floor: np.ndarray
    pattern: np.ndarray
    grain: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)

    def part(self, start: int, end: int) -> Rooms:
        """Return the scenes from ``start`` to ``end``."""
        return Rooms(**{name: values[start:end] for name, values in vars(self).items()})


def draw(n: int, seed: int, purpose: str) -> Rooms:
    """Draw the scenes of ``n`` pictures; every picture has at least one solid in view, most have several."""
    random = rng.arrays(seed, "scenes", purpose)
    half, deep, tall = random.uniform(2.4, 3.6, n), random.uniform(5.5, 8.0, n), random.uniform(2.4, 3.2, n)
    low = np.stack([-half, np.zeros(n), np.zeros(n)], axis=1)
    high = np.stack([half, tall, deep], axis=1)
    eye = np.stack([random.uniform(-0.6, 0.6, n), random.uniform(1.1, 1.9, n), random.uniform(0.2, 0.6, n)], axis=1)
    yaw, pitch = random.uniform(-0.45, 0.45, n), random.uniform(-0.42, -0.08, n)
    lamp = np.stack([random.uniform(-0.8, 0.8, n) * half, tall - 0.15, random.uniform(0.1, 0.8, n) * deep], axis=1)
    kind = random.integers(0, len(KINDS), (n, MOST_SOLIDS))
    wanted = random.integers(1, MOST_SOLIDS + 1, n)
    kind[np.arange(MOST_SOLIDS) >= wanted[:, None]] = -1
    size = np.stack([random.uniform(0.22, 0.5, (n, MOST_SOLIDS)) for _ in range(3)], axis=2)
    size[..., 1] = random.uniform(0.5, 1.4, (n, MOST_SOLIDS))
    round_ = kind != KINDS.index("box")
    size[..., 2] = np.where(round_, size[..., 0], size[..., 2])
    size[..., 1] = np.where(kind == KINDS.index("sphere"), 2 * size[..., 0], size[..., 1])
    foot, kind = _placed(random, kind, size, low, high, eye, yaw)
    wall = random.uniform(0.55, 0.9, (n, 1)) * random.uniform(0.85, 1.0, (n, 3))
    floor = random.uniform(0.25, 0.75, (n, 2, 1)) * random.uniform(0.7, 1.0, (n, 2, 3))
    return Rooms(
        low=low,
        high=high,
        eye=eye,
        yaw=yaw,
        pitch=pitch,
        lamp=lamp,
        kind=kind,
        foot=foot,
        size=size,
        turn=np.where(round_, 0.0, random.uniform(0, np.pi, (n, MOST_SOLIDS))),
        colour=random.integers(0, len(COLOURS), (n, MOST_SOLIDS)),
        shade=random.uniform(0.75, 1.1, (n, MOST_SOLIDS)),
        walls=wall,
        floor=floor,
        pattern=random.integers(0, 4, n),
        grain=random.uniform(0.3, 0.8, n),
    )


def _placed(
    random: np.random.Generator,
    kind: np.ndarray,
    size: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    eye: np.ndarray,
    yaw: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return where solids stand, and their kinds: −1 for those that no place was found for.

    A solid stands within view, inside the room and apart from those before it. The first has a place that is always
    free: straight ahead.
    """
    n, most = len(kind), kind.shape[1]
    reach = np.where(kind == KINDS.index("box"), np.hypot(size[..., 0], size[..., 2]), size[..., 0]) + APART
    foot: np.ndarray = np.full((n, most, 2), np.nan)
    found = np.zeros((n, most), dtype=bool)
    view = np.radians(FIELD_OF_VIEW / 2)
    for k in range(most):
        for _ in range(TRIES):
            angle = yaw + np.arctan(random.uniform(-0.85, 0.85, n) * np.tan(view))
            far = random.uniform(1.8, 5.5, (n, 1))
            place = eye[:, [0, 2]] + far * np.stack([np.sin(angle), np.cos(angle)], axis=1)
            edge = reach[:, k : k + 1]
            inside = ((place > low[:, [0, 2]] + edge) & (place < high[:, [0, 2]] - edge)).all(axis=1)
            clear = np.hypot(foot[..., 0] - place[:, :1], foot[..., 1] - place[:, 1:]) > reach + edge
            fits = inside & (clear | ~found).all(axis=1) & ~found[:, k] & (kind[:, k] >= 0)
            foot[fits, k], found[fits, k] = place[fits], True
        if k == 0:
            ahead = eye[:, [0, 2]] + 2.0 * np.stack([np.sin(yaw), np.cos(yaw)], axis=1)
            foot[~found[:, 0], 0], found[:, 0] = ahead[~found[:, 0]], True
    return np.where(found[..., None], foot, 0.0), np.where(found, kind, -1)
