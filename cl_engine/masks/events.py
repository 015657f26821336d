"""What strategies tell that keep one network and parts for every task."""

from __future__ import annotations

from dataclasses import dataclass

from cl_engine.events import StrategyEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLearned(StrategyEvent):
    """A mask was learned: shares of all masked weights that changed since the start, and that are off, by seed."""

    task_id: int
    flipped: tuple[float, ...]
    zeroed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMask(StrategyEvent):
    """The same for one layer."""

    task_id: int
    part: str
    flipped: tuple[float, ...]
    zeroed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOverlap(StrategyEvent):
    """Jaccard index of what the masks of two tasks leave on in one layer, by seed."""

    task_id: int
    other: int
    part: str
    jaccard: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsOwned(StrategyEvent):
    """Shares of a layer's weights that a task took for itself, and that are still free for later ones, by seed."""

    task_id: int
    part: str
    owned: tuple[float, ...]
    free: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInferred(StrategyEvent):
    """Share of training rows whose task was inferred rightly among all tasks met, by seed."""

    task_id: int
    rows: int
    right: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatesUsed(StrategyEvent):
    """Shares of a layer's units that a task's gates leave open, and that some task up to now has in use, by seed."""

    task_id: int
    part: str
    open: tuple[float, ...]
    used: tuple[float, ...]
