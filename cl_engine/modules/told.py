"""What strategies tell that compose modules."""

from __future__ import annotations

from dataclasses import dataclass, field

from cl_engine.events import Seconds, StrategyEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScored(StrategyEvent):
    """Proxy accuracy of a past task's features on the validation rows of a new one, by seed."""

    task_id: int
    source: int
    score: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTried(StrategyEvent):
    """A path was trained: what it reuses, with which rate and decay, and what it reached on validation rows, by seed."""

    task_id: int
    candidate: int
    reused: int
    lr: float
    weight_decay: float
    validation: tuple[float, ...]
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChosen(StrategyEvent):
    """The path of a task, by seed: from which task, how many modules are reused; −1: no source."""

    task_id: int
    source: tuple[int, ...]
    reused: tuple[int, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulesHeld(StrategyEvent):
    """Modules of one depth that the library holds, by seed."""

    part: str
    modules: tuple[int, ...]
