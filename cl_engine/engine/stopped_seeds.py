"""Events without the numbers of stopped seeds, whose losses were not finite."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

from cl_engine.events import (
    EpochEnded,
    Event,
    MetricScored,
    ScoresReused,
    SeedStopped,
    StrategyEvent,
    TaskTested,
    Transferred,
    ValidationScored,
)


def without_seeds(event: Event, stopped: Collection[int]) -> Event:
    """Return the event with nothing in the places of the seeds stopped: NaN."""
    if not stopped:
        return event
    if isinstance(event, TaskTested):
        sums = tuple((math.nan,) * len(own) if k in stopped else own for k, own in enumerate(event.sums))
        return replace(event, score=_nothing(event.score, stopped), sums=sums)
    if isinstance(event, ScoresReused | ValidationScored):
        score, more = event.score.copy(), event.sums.astype(float)
        score[:, list(stopped)] = more[:, list(stopped)] = math.nan
        return replace(event, score=score, sums=more)
    if isinstance(event, MetricScored):
        kept = None if event.sums is None else event.sums.astype(float)
        if kept is not None:
            kept[list(stopped)] = math.nan
        return replace(event, value=_nothing(event.value, stopped), sums=kept)
    if isinstance(event, Transferred):
        losses, errors = event.losses.copy(), event.errors.copy()
        losses[list(stopped)] = errors[list(stopped)] = math.nan
        return replace(event, score=_nothing(event.score, stopped), losses=losses, errors=errors)
    if isinstance(event, EpochEnded):
        return replace(event, loss=_nothing(event.loss, stopped))
    if isinstance(event, StrategyEvent) and not isinstance(event, SeedStopped):
        numbers = {fact.name: getattr(event, fact.name) for fact in fields(event)}
        changed: dict[str, Any] = {n: _nothing(v, stopped) for n, v in numbers.items() if isinstance(v, tuple)}
        return replace(event, **changed)
    return event


def _nothing(numbers: tuple[float, ...], stopped: Collection[int]) -> tuple[float, ...]:
    return tuple(math.nan if k in stopped else number for k, number in enumerate(numbers))
