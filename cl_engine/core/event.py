"""What events of a run are made from: the base of all, of those that tell of tests, and of those of strategies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

Seconds = float
NOT_MEASURED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact about the run.

    >>> event = Event(step=3)
    >>> event.step
    3
    """

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyEvent(Event):
    """Base of the events of strategies: a subclass adds named numbers, or tuples with one number for each seed.

    Two names mean something of their own: ``part``, a string, says what part of the net the numbers are about, and
    ``seconds`` (a field with ``compare=False``) how long it took.

    >>> event = StrategyEvent(step=3)
    >>> event.step
    3
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTested(Event):
    """Base of the events that tell how a task's test rows were answered, by seed.

    ``sums`` are the sums over the rows that the measure of the task's target is a function of (`cl_engine.nn.target`), and
    ``score`` is that measure. Where it is accuracy, the sums are the rows answered correctly and all rows.

    >>> event = TaskTested(step=3, task_id=2, **counts((45, 44), 50))
    >>> event.score, event.n_correct, event.n_total
    ((0.9, 0.88), (45, 44), 50)
    """

    task_id: int
    score: tuple[float, ...]
    sums: tuple[tuple[float, ...], ...]

    @property
    def n_correct(self) -> tuple[int, ...]:
        """Rows answered correctly, where the measure is accuracy; `NOT_MEASURED` for seeds that were stopped."""
        return tuple(NOT_MEASURED if math.isnan(own[0]) else int(own[0]) for own in self.sums)

    @property
    def n_total(self) -> int:
        """Rows tested, where the measure is accuracy."""
        return next((int(own[1]) for own in self.sums if not math.isnan(own[1])), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsDiagnosed(StrategyEvent):
    """A layer of a net that is about to learn an experience, seen on rows of it (`cl_engine.training.diagnostics`), by seed.

    ``part`` is the layer. Of the ``units`` that it reads, shares: ``dead`` (0 on all rows), ``dormant`` (its mean magnitude is
    less than a share of the layer's mean), ``linearised`` (on for nine rows of ten); and ranks of the rows' features, of which
    there are at most as many as units. Of its ``weights``, of which there are so many: mean and Frobenius norm of their
    magnitudes, norm of the gradient, and distance to what the net began with. NaN where a number has no meaning.

    >>> numbers = dict.fromkeys(("dead", "dormant", "linearised", "effective_rank", "stable_rank", "rank_99"), (0.5,))
    >>> numbers |= dict.fromkeys(("rank_99_squares", "weight_mean", "weight_norm", "gradient_norm", "distance"), (1.0,))
    >>> UnitsDiagnosed(step=3, task_id=2, part="3", units=100, weights=10_000, **numbers).dead
    (0.5,)
    """

    task_id: int
    part: str
    units: int
    weights: int
    dead: tuple[float, ...]
    dormant: tuple[float, ...]
    linearised: tuple[float, ...]
    effective_rank: tuple[float, ...]
    stable_rank: tuple[float, ...]
    rank_99: tuple[float, ...]
    rank_99_squares: tuple[float, ...]
    weight_mean: tuple[float, ...]
    weight_norm: tuple[float, ...]
    gradient_norm: tuple[float, ...]
    distance: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transferred(StrategyEvent):
    """A task was answered in one of several ways, by seed: the outcome of each of its validation rows.

    ``kind`` and ``labels`` are those of `cl_engine.results.transfers.Transfer`, and so are ``sources``, the tasks whose nets
    are read, which each seed may choose. ``losses`` and ``errors`` are arrays ``[S, N]``, ``score`` is the task's measure.

    >>> rows = np.array([[0.1, 2.0]])
    >>> told = dict(kind="transfer", labels=400, score=(0.5,), losses=rows, errors=np.round(rows / 2))
    >>> Transferred(step=3, task_id=2, sources=((0, 1),), **told).errors
    array([[0., 1.]])
    """

    task_id: int
    sources: tuple[tuple[int, ...], ...]
    kind: str
    labels: int
    score: tuple[float, ...]
    losses: np.ndarray
    errors: np.ndarray

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transferred) and equal_facts(self, other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoresReused(Event):
    """Tasks whose answers cannot have changed and are not tested again: cells of a row of R as they were in the last tests.

    There may be thousands of them after every task, so that they are arrays: ``task_ids [n]``, ``score [n, S]`` and
    ``sums [n, S, K]``, K the greatest number of sums of any of the tasks.

    >>> sums = np.array([[[45.0, 50.0]]])
    >>> event = ScoresReused(step=3, evaluation=4, task_ids=np.array([0]), score=np.array([[0.9]]), sums=sums)
    >>> event.score
    array([[0.9]])
    """

    evaluation: int
    task_ids: np.ndarray
    score: np.ndarray
    sums: np.ndarray

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScoresReused) and equal_facts(self, other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValidationScored(Event):
    """A row of R as the validation rows have it, of the tasks met that were tested: what choices go by.

    Arrays as in `ScoresReused`: ``task_ids [n]``, ``score [n, S]``, ``sums [n, S, K]``; and the scores of the run so far, as in
    `Scored`, but for forward transfer, as tasks not yet met have no part in it.

    >>> sums = np.array([[[45.0, 50.0]]])
    >>> how = {"task_ids": np.array([0]), "score": np.array([[0.9]]), "sums": sums, "seconds": 0.1}
    >>> ValidationScored(step=3, evaluation=4, acc=(0.9,), bwt=(0.0,), forgetting=(0.0,), **how).acc
    (0.9,)
    """

    evaluation: int
    task_ids: np.ndarray
    score: np.ndarray
    sums: np.ndarray
    acc: tuple[float, ...]
    bwt: tuple[float, ...]
    forgetting: tuple[float, ...]
    seconds: Seconds = field(compare=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValidationScored) and equal_facts(self, other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricScored(Event):
    """A metric of the agenda (``agenda.metrics``) was measured on a task, by seed; ``task_id`` −1: it is of the whole run.

    Told where a task was tested; where its score is taken over as unchanged, so is the metric: ``value`` is empty, or there is no
    event. ``sums`` ``[S, K]`` are those that the value is a function of, where they are to be kept, else None.

    >>> MetricScored(step=3, evaluation=4, task_id=2, metric="loss", value=(0.7,), sums=np.array([[35.0, 50.0]])).value
    (0.7,)
    """

    evaluation: int
    task_id: int
    metric: str
    value: tuple[float, ...]
    sums: np.ndarray | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MetricScored) and equal_facts(self, other)

    __hash__ = None  # type: ignore[assignment]


def equal_facts(one: Event, other: Event) -> bool:
    """Return whether two events of a kind, some of whose facts are arrays, tell the same."""
    pairs = [(getattr(one, fact.name), getattr(other, fact.name)) for fact in fields(one) if fact.compare]
    return all(
        np.array_equal(mine, own, equal_nan=True) if isinstance(mine, np.ndarray) else mine == own
        for mine, own in pairs
    )


def counts(n_correct: Sequence[float], n_total: int) -> dict[str, Any]:
    """Return score and sums of rows answered correctly, by seed, of as many rows tested.

    >>> counts((45,), 50)
    {'score': (0.9,), 'sums': ((45, 50),)}
    """
    score = tuple(right / n_total if n_total else math.nan for right in n_correct)
    return {"score": score, "sums": tuple((right, n_total) for right in n_correct)}
