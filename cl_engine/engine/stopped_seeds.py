"""Events without the numbers of stopped seeds, whose losses were not finite."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

from cl_engine.events import (
    NOT_MEASURED,
    CurvePoint,
    EarlierTaskTested,
    EpochEnded,
    Evaluated,
    Event,
    ScoresReused,
    SeedStopped,
    StrategyEvent,
)


def without_seeds(event: Event, stopped: Collection[int]) -> Event:
    """Return the event with nothing in the places of the seeds stopped: `NOT_MEASURED` for counts, NaN for all else."""
    if not stopped:
        return event
    if isinstance(event, CurvePoint | EarlierTaskTested | Evaluated):
        right = tuple(NOT_MEASURED if k in stopped else count for k, count in enumerate(event.n_correct))
        return replace(event, n_correct=right)
    if isinstance(event, ScoresReused):
        counts = event.n_correct.copy()
        counts[:, list(stopped)] = NOT_MEASURED
        return replace(event, n_correct=counts)
    if isinstance(event, EpochEnded):
        return replace(event, loss=_nothing(event.loss, stopped))
    if isinstance(event, StrategyEvent) and not isinstance(event, SeedStopped):
        numbers = {fact.name: getattr(event, fact.name) for fact in fields(event)}
        changed: dict[str, Any] = {n: _nothing(v, stopped) for n, v in numbers.items() if isinstance(v, tuple)}
        return replace(event, **changed)
    return event


def _nothing(numbers: tuple[float, ...], stopped: Collection[int]) -> tuple[float, ...]:
    return tuple(math.nan if k in stopped else number for k, number in enumerate(numbers))
