"""Events emitted by strategies that compose modules."""

from __future__ import annotations

from dataclasses import dataclass, field

from cl_engine.events import Seconds, StrategyEvent

NOBODY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScored(StrategyEvent):
    """Proxy accuracy of a past task's features on the validation rows of a new one, by seed.

    >>> event = SourceScored(step=3, task_id=2, source=0, score=(0.9, 0.8))
    >>> event.score
    (0.9, 0.8)
    """

    task_id: int
    source: int
    score: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecognised(StrategyEvent):
    """A past task was picked to be looked at for a new one: the log of how likely its inputs' Gaussian makes the new rows.

    >>> SourceRecognised(step=3, task_id=2, source=0, log_density=-812.5).source
    0
    """

    task_id: int
    source: int
    log_density: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTried(StrategyEvent):
    """A path was trained: what it reuses, with which rate and decay, and what it reached on validation rows, by seed.

    ``rank`` says whose modules it reuses: those of the source that was best by proxy (0), second best, …; ``reused`` how
    many, ``first_new`` the depth of the first that is not, and ``flops`` the operations of training it, one seed's. NaN: it was
    not tried for this seed, but beside those for which it was.

    >>> what = {"candidate": 0, "rank": 0, "reused": 3, "first_new": 3, "lr": 0.01, "weight_decay": 0.0}
    >>> event = CandidateTried(step=3, task_id=2, **what, validation=(0.9, 0.8), flops=1e9, seconds=0.1)
    >>> event.reused
    3
    """

    task_id: int
    candidate: int
    rank: int
    reused: int
    first_new: int
    lr: float
    weight_decay: float
    validation: tuple[float, ...]
    flops: float
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixScored(StrategyEvent):
    """The old module of one depth that a new task's inputs go through best, by seed, and the task whose inputs were so.

    ``log_score`` is that of the prefix up to this depth: log of prior and likelihood, over what any module makes likely.

    >>> event = PrefixScored(step=3, part="depth 0", task_id=2, source=(1, 0), module=(1, 0), log_score=(-3.2, -3.1))
    >>> event.module
    (1, 0)
    """

    part: str
    task_id: int
    source: tuple[int, ...]
    module: tuple[int, ...]
    log_score: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuffixTried(StrategyEvent):
    """The last modules of a past solution were tried, by seed: whose they are, and the loss on validation rows.

    −1 and NaN: the seed tried none here. ``improvement`` was expected of it by the Gaussian process; NaN: it was not asked.

    >>> what = {"candidate": 5, "length": 3, "loss": (0.4, 0.5), "improvement": (0.02, 0.01)}
    >>> event = SuffixTried(step=3, task_id=2, source=(1, 0), **what)
    >>> event.source
    (1, 0)
    """

    task_id: int
    candidate: int
    length: int
    source: tuple[int, ...]
    loss: tuple[float, ...]
    improvement: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSampled(StrategyEvent):
    """An epoch over sampled paths: the entropy of their distribution in nats and the mean number of new modules, by seed.

    >>> event = PathSampled(step=3, task_id=2, epoch=1, entropy=(0.9, 0.8), new=(0.9, 0.8))
    >>> event.new
    (0.9, 0.8)
    """

    task_id: int
    epoch: int
    entropy: tuple[float, ...]
    new: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChosen(StrategyEvent):
    """The path of a task, by seed: from which task, how many modules are reused; −1: no source.

    >>> event = PathChosen(step=3, task_id=2, source=(0, 1), reused=(45, 44), validation=(0.9, 0.8))
    >>> event.validation
    (0.9, 0.8)
    """

    task_id: int
    source: tuple[int, ...]
    reused: tuple[int, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStep(StrategyEvent):
    """The module of one depth on the path of a task, by seed: its row in the library.

    >>> event = PathStep(step=3, part="depth 0", task_id=2, module=(2, 0))
    >>> event.module
    (2, 0)
    """

    part: str
    task_id: int
    module: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleAdded(StrategyEvent):
    """A module of one depth was added to the library for a task, by seed: its row; −1: the seed reuses one.

    >>> event = ModuleAdded(step=3, part="depth 0", task_id=2, module=(2, 0))
    >>> event.module
    (2, 0)
    """

    part: str
    task_id: int
    module: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLearned(StrategyEvent):
    """The block that a task uses at one step, by seed, and the entropy of its shares in nats before the choice was made.

    >>> event = OrderLearned(step=3, part="depth 0", task_id=2, block=(0, 1), entropy=(0.9, 0.8))
    >>> event.entropy
    (0.9, 0.8)
    """

    part: str
    task_id: int
    block: tuple[int, ...]
    entropy: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTried(StrategyEvent):
    """A start of adaptation without labels: from a past task's order, the certainty before and after, by seed.

    Certainty is the entropy of the mean answer less the mean entropy of answers, in nats.

    >>> event = OrderTried(step=3, task_id=2, source=0, before=(0.9, 0.8), after=(0.9, 0.8))
    >>> event.after
    (0.9, 0.8)
    """

    task_id: int
    source: int
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingLearned(StrategyEvent):
    """The set of weights that a task uses in one layer, by seed, and the entropy of its chances in nats before the choice.

    >>> event = SharingLearned(step=3, part="fc1", task_id=2, set=(0, 1), entropy=(0.02, 0.1))
    >>> event.set
    (0, 1)
    """

    part: str
    task_id: int
    set: tuple[int, ...]
    entropy: tuple[float, ...]
