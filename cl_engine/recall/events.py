"""What a strategy that recalls skills tells about it: its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from cl_engine.events import Seconds, StrategyEvent

Each = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillStored(StrategyEvent):
    """A skill has been written down: as a code, or exactly if it waits for a consolidation; ``bytes`` it added."""

    task_id: int
    bytes: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillRecalled(StrategyEvent):
    """A skill was made into a net again, all seeds together in ``seconds``."""

    task_id: int
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidated(StrategyEvent):
    """Waiting skills were encoded, old ones rehearsed: what it took, and how near recollections are now, by seed.

    ``cosine`` compares with what was to be recalled (recollections of old skills, exact new ones), ``residual`` the
    same without the shared start, ``previous`` the old recollections before and now (drift), ``original`` with the
    nets as they were learned (estimated from sketches; NaN where there are none). ``worst`` is the least over skills.
    """

    skills: int
    passes: tuple[int, ...]
    cosine: Each
    cosine_worst: Each
    residual: Each
    residual_worst: Each
    previous: Each
    previous_worst: Each
    original: Each
    original_worst: Each
    original_residual: Each
    original_residual_worst: Each
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallVerified(StrategyEvent):
    """The newest skill on its own rows, before it was encoded and recalled: validation rows, else training rows."""

    task_id: int
    original: Each
    recalled: Each


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillBytes(StrategyEvent):
    """Bytes of one seed: what recall reads, all the learner holds, and what keeping every net whole would take."""

    skills: int
    recall_only: int
    in_all: int
    kept_whole: int
