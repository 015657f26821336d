"""Events emitted by mask strategies."""

from __future__ import annotations

from dataclasses import dataclass

from cl_engine.events import StrategyEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRate(StrategyEvent):
    """Scores of a mask are about to be trained: their learning rate at the start, and the steps there are.

    >>> event = MaskRate(step=3, task_id=2, rate=1e-4, steps=5640)
    >>> event.steps
    5640
    """

    task_id: int
    rate: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLearned(StrategyEvent):
    """A mask was learned: shares of all masked weights that changed since the start, and that are off, by seed.

    >>> event = MaskLearned(step=3, task_id=2, flipped=(0.9, 0.8), zeroed=(0.9, 0.8))
    >>> event.zeroed
    (0.9, 0.8)
    """

    task_id: int
    flipped: tuple[float, ...]
    zeroed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMask(StrategyEvent):
    """Shares of one layer's masked weights that changed since the start, and that are off, by seed.

    >>> event = LayerMask(step=3, task_id=2, part="1.weight", flipped=(0.9, 0.8), zeroed=(0.9, 0.8))
    >>> event.zeroed
    (0.9, 0.8)
    """

    task_id: int
    part: str
    flipped: tuple[float, ...]
    zeroed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOverlap(StrategyEvent):
    """Jaccard index of what the masks of two tasks leave on in one layer, by seed.

    >>> event = MaskOverlap(step=3, task_id=2, other=0, part="1.weight", jaccard=(0.9, 0.8))
    >>> event.jaccard
    (0.9, 0.8)
    """

    task_id: int
    other: int
    part: str
    jaccard: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsOwned(StrategyEvent):
    """Shares of a layer's weights that a task took for itself, and that are still free for later ones, by seed.

    >>> event = WeightsOwned(step=3, task_id=2, part="1.weight", owned=(0.5, 0.4), free=(0.2, 0.3))
    >>> event.free
    (0.2, 0.3)
    """

    task_id: int
    part: str
    owned: tuple[float, ...]
    free: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInferred(StrategyEvent):
    """Share of training rows whose task was inferred rightly among all tasks met, by seed.

    >>> event = TaskInferred(step=3, task_id=2, rows=60, right=(0.9, 0.8))
    >>> event.right
    (0.9, 0.8)
    """

    task_id: int
    rows: int
    right: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatesUsed(StrategyEvent):
    """Shares of a layer's units that a task's gates leave open, and that some task up to now has in use, by seed.

    >>> event = GatesUsed(step=3, task_id=2, part="1", open=(0.5, 0.4), used=(0.9, 0.8))
    >>> event.used
    (0.9, 0.8)
    """

    task_id: int
    part: str
    open: tuple[float, ...]
    used: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MasksCoded(StrategyEvent):
    """Masks of all tasks so far were entropy-coded: bits that a weight takes for each task, and share of weights in use, by seed.

    >>> event = MasksCoded(step=3, task_id=2, bits=0.84, used=(0.7, 0.6))
    >>> event.bits
    0.84
    """

    task_id: int
    bits: float
    used: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientsGated(StrategyEvent):
    """Mean of a layer's importance to tasks so far, and share of its weights that hardly move any more, by seed.

    >>> event = GradientsGated(step=3, task_id=2, part="1.weight", mean=(0.6, 0.5), shut=(0.02, 0.01))
    >>> event.shut
    (0.02, 0.01)
    """

    task_id: int
    part: str
    mean: tuple[float, ...]
    shut: tuple[float, ...]
