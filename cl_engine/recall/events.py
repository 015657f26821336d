"""Events emitted by strategies that recall skills."""

from __future__ import annotations

from dataclasses import dataclass, field

from cl_engine.events import Seconds, StrategyEvent

Each = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillStored(StrategyEvent):
    """A skill has been written down: as a code, or exactly if it waits for a consolidation; ``bytes`` it added.

    >>> event = SkillStored(step=3, task_id=2, bytes=4000, waiting=1)
    >>> event.waiting
    1
    """

    task_id: int
    bytes: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillRecalled(StrategyEvent):
    """A skill was made into a net again; all seeds together took ``seconds``.

    >>> event = SkillRecalled(step=3, task_id=2, seconds=0.1)
    >>> event.task_id
    2
    """

    task_id: int
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidated(StrategyEvent):
    """Waiting skills were encoded and old ones rehearsed: the cost, and how near recollections are now, by seed.

    ``cosine`` compares with what was to be recalled (recollections of old skills, exact new ones), ``residual`` the
    same without the shared start, ``previous`` the old recollections before and now (drift), ``original`` with the
    nets as they were learned (estimated from sketches; NaN where there are none). ``worst`` is the least over skills.
    ``passes`` are the epochs over the skills that each seed took.

    >>> both = (0.99, 0.98)
    >>> names = [field for field in Consolidated.__annotations__ if field not in ("skills", "passes", "seconds")]
    >>> event = Consolidated(step=3, skills=5, passes=(40, 35), **dict.fromkeys(names, both), seconds=0.1)
    >>> event.cosine
    (0.99, 0.98)
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
    """Accuracy of the newest skill on its own rows before it was encoded and after: validation rows, else training rows.

    >>> event = RecallVerified(step=3, task_id=2, original=(0.99, 0.98), recalled=(0.99, 0.98))
    >>> event.recalled
    (0.99, 0.98)
    """

    task_id: int
    original: Each
    recalled: Each


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillBytes(StrategyEvent):
    """Bytes of one seed: what recall reads, all the learner holds, and what keeping every net whole would take.

    >>> event = SkillBytes(step=3, skills=5, recall_only=9_000, in_all=12_000, kept_whole=80_000)
    >>> event.kept_whole
    80000
    """

    skills: int
    recall_only: int
    in_all: int
    kept_whole: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesDrifted(StrategyEvent):
    """The net of a past task's code has moved while another task was learned: by how much of its distance from the start.

    >>> event = CodesDrifted(step=3, task_id=1, distance=(0.02, 0.01))
    >>> event.distance
    (0.02, 0.01)
    """

    task_id: int
    distance: Each


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeStarted(StrategyEvent):
    """A new code starts from that of the task ``source``, whose net, at ``time``, had the least loss on the new rows.

    >>> event = CodeStarted(step=3, task_id=3, source=(1.0, 0.0), time=(75.0, 150.0), loss=(1.9, 2.1))
    >>> event.source
    (1.0, 0.0)
    """

    task_id: int
    source: Each
    time: Each
    loss: Each


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldResidual(StrategyEvent):
    """How far steps of a field are from SGD's, as a share of SGD's step, in the middle of a stretch of time (``part``).

    >>> event = FieldResidual(step=3, task_id=3, part="t 0–30", value=(0.4, 0.5))
    >>> event.part
    't 0–30'
    """

    task_id: int
    part: str
    value: Each


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldAudited(StrategyEvent):
    """A field beside a real run of SGD, after ``time`` steps: distance as a share of the way SGD has come, and both scores.

    Scores are by the measure of the task's target, on validation rows, or training rows where none are set aside.

    >>> event = FieldAudited(step=3, task_id=3, time=40, distance=(0.3,), accuracy=(0.89,), accuracy_sgd=(0.9,))
    >>> event.time
    40
    """

    task_id: int
    time: int
    distance: Each
    accuracy: Each
    accuracy_sgd: Each
