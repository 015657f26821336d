"""Events of a run: frozen facts in the order in which they happen.

Every event carries the ``step`` of the stream it belongs to (−1 before the first). Durations take no part in equality:
two runs of the same experiment yield equal events. Per-seed numbers are tuples with one entry a seed; of a seed that was
stopped they are NaN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from cl_engine.core.event import NOT_MEASURED as NOT_MEASURED
from cl_engine.core.event import Event as Event
from cl_engine.core.event import MetricScored as MetricScored
from cl_engine.core.event import ScoresReused as ScoresReused
from cl_engine.core.event import Seconds as Seconds
from cl_engine.core.event import StrategyEvent as StrategyEvent
from cl_engine.core.event import TaskTested as TaskTested
from cl_engine.core.event import Transferred as Transferred
from cl_engine.core.event import UnitsDiagnosed as UnitsDiagnosed
from cl_engine.core.event import ValidationScored as ValidationScored
from cl_engine.core.event import counts as counts


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted(Event):
    """The run begins, or is resumed at a later cursor of its agenda.

    >>> event = StreamStarted(step=3, cursor=6, n_steps=10, n_tasks=10)
    >>> event.n_tasks
    10
    """

    cursor: int
    n_steps: int | None
    n_tasks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted(Event):
    """An experience is about to be learned.

    >>> event = TaskStarted(step=3, task_id=2, rows=60)
    >>> event.rows
    60
    """

    task_id: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessScored(Event):
    """Score on a task's test rows of the one answer that suits its training labels best (`Target.guess`).

    Told when a task arrives for the first time, in streams that ask for more than classes: a score is held against it.

    >>> event = GuessScored(step=3, task_id=2, score=0.1)
    >>> event.score
    0.1
    """

    task_id: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """Work is under way: the share (0 to 1) of the present piece that is done. Not logged, and not the same in every run.

    >>> event = Progress(step=3, done=0.5)
    >>> event.done
    0.5
    """

    done: float = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnded(Event):
    """End of an epoch, a pass over the training rows; ``loss`` is its mean. ``fit`` counts the fits of this experience.

    ``flops`` are the operations of the epoch, one seed's, counted on its first step; NaN: not counted.

    >>> event = EpochEnded(step=3, task_id=2, fit=0, epoch=1, epochs=5, loss=(0.9, 0.8), seconds=0.1)
    >>> event.loss
    (0.9, 0.8)
    """

    task_id: int
    fit: int
    epoch: int
    epochs: int
    loss: tuple[float, ...]
    flops: float = field(default=math.nan, compare=False)
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineScored(TaskTested):
    """Answers to the training ``rows`` since the event before it by the forward pass that trained on them, by seed.

    >>> event = OnlineScored(step=3, task_id=2, fit=0, epoch=0, batch=10, rows=50, **counts((45, 44), 50))
    >>> event.score
    (0.9, 0.88)
    """

    fit: int
    epoch: int
    batch: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFinite(Event):
    """The loss of some ``seeds`` was NaN or infinite at the end of an epoch. For the engine alone, which stops them.

    >>> event = NotFinite(step=3, task_id=2, fit=0, epoch=1, seeds=(1,))
    >>> event.seeds
    (1,)
    """

    task_id: int
    fit: int
    epoch: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint(TaskTested):
    """Score of the task being learned, measured in the middle of learning it, after ``batch`` batches.

    >>> event = CurvePoint(step=3, task_id=2, batch=10, epoch=1, **counts((45, 44), 50), seconds=0.1)
    >>> event.n_total
    50
    """

    batch: int
    epoch: int
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierTaskTested(TaskTested):
    """Score of a task learned before, measured in the middle of learning another, after ``batch`` batches.

    >>> event = EarlierTaskTested(step=3, task_id=2, batch=10, epoch=1, **counts((45, 44), 50), seconds=0.1)
    >>> event.n_total
    50
    """

    batch: int
    epoch: int
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLearned(Event):
    """An experience has been learned; ``memory`` is the bytes one seed holds, by part of its state.

    ``apart`` are those that do not count (`cl_engine.core.state`), ``flops`` the operations of one answer; NaN: not counted.

    >>> TaskLearned(step=3, task_id=2, memory={"net": 4000}, seconds=0.1).memory
    {'net': 4000}
    """

    task_id: int
    memory: dict[str, int]
    apart: dict[str, int] = field(default_factory=dict)
    flops: float = field(default=math.nan, compare=False)
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(TaskTested):
    """A task was tested; ``evaluation`` is the row of R.

    >>> event = Evaluated(step=3, evaluation=4, task_id=2, **counts((45, 44), 50))
    >>> event.n_total
    50
    """

    evaluation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Event):
    """A row of R is complete; the scores of the run so far (NaN where not defined or not measured).

    ``seconds`` are those of all that was scored for it, validation rows among them.

    >>> event = Scored(step=3, evaluation=4, acc=(0.9, 0.8), bwt=(0.9, 0.8), fwt=(0.9, 0.8), forgetting=(0.9, 0.8), seconds=0.1)
    >>> event.forgetting
    (0.9, 0.8)
    """

    evaluation: int
    acc: tuple[float, ...]
    bwt: tuple[float, ...]
    fwt: tuple[float, ...]
    forgetting: tuple[float, ...]
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving(Event):
    """All rows up to here must be on disk when the reader asks for the next event: a checkpoint follows.

    >>> event = Saving(step=3, cursor=6)
    >>> event.cursor
    6
    """

    cursor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Event):
    """The checkpoint is on disk; ``midway``: that of the fits of an experience that is still being learned.

    >>> event = Saved(step=3, cursor=6, bytes=4000, seconds=0.1)
    >>> event.bytes
    4000
    """

    cursor: int
    bytes: int
    midway: bool = False
    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(Event):
    """The agenda is done.

    >>> event = StreamEnded(step=3, seconds=0.1)
    >>> event.step
    3
    """

    seconds: Seconds = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedStopped(StrategyEvent):
    """A loss was NaN or infinite at the end of an epoch; ``stopped`` is 1 for the seeds that end because of it.

    Where an answer was NaN in a test, ``fit`` and ``epoch`` are −1.

    >>> event = SeedStopped(step=3, task_id=2, fit=0, epoch=1, stopped=(0, 1))
    >>> event.stopped
    (0, 1)
    """

    task_id: int
    fit: int
    epoch: int
    stopped: tuple[int, ...]


def cells(event: Event) -> Iterator[Evaluated]:
    """Yield the cells of R that an event tells of one by one, whether they were measured or taken over."""
    if isinstance(event, Evaluated):
        yield event
    elif isinstance(event, ScoresReused):
        where = {"step": event.step, "evaluation": event.evaluation}
        for task, score, sums in zip(event.task_ids.tolist(), event.score.tolist(), event.sums.tolist(), strict=True):
            yield Evaluated(**where, task_id=task, score=tuple(score), sums=tuple(map(tuple, sums)))


def __getattr__(name: str) -> type[Event]:
    """Return an event under the name it had until version 0.1."""
    renamed: dict[str, type[Event]] = {"EarlierTested": EarlierTaskTested, "Unchanged": ScoresReused}
    if name not in renamed:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now {renamed[name].__name__}", DeprecationWarning, stacklevel=2)
    return renamed[name]
