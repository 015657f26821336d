"""Seeds whose losses or answers were not finite: how they are stopped, and events without their numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from cl_engine.errors import RunFailed
from cl_engine.events import (
    EpochEnded,
    Event,
    MetricScored,
    NotFinite,
    ScoresReused,
    SeedStopped,
    StrategyEvent,
    TaskTested,
    Transferred,
    ValidationScored,
)
from cl_engine.training.optimizers import Train

LOG = logging.getLogger("cl_engine")
IN_A_TEST = -1  # in the place of the fit and the epoch where answers were not finite


def undefined_answers(found: Mapping[int, int], seeds: Sequence[int], train: Train, step: int) -> NotFinite:
    """Return that the answers of some seeds were NaN in a test after a step, given a task of which they were by place.

    Raises:
        RunFailed: if that is to stop the run.
    """
    place, task = next(iter(found.items()))
    numbers = tuple(seeds[at] for at in sorted(found))
    event = NotFinite(step=step, task_id=task, fit=IN_A_TEST, epoch=IN_A_TEST, seeds=numbers)
    if train.not_finite == "stop_run":
        others = ", or let other seeds go on without it: train.not_finite = 'stop_seed'" if len(seeds) > 1 else ""
        what, where = said(event)
        raise RunFailed(
            f"{what} of seed {seeds[place]} is nan {where}, which is no answer: look at what `predict` computes, or lower "
            f"train.lr, now {train.lr}{others}"
        )
    return event


def said(event: NotFinite) -> tuple[str, str]:
    """Return what was not finite, and where."""
    if event.fit == IN_A_TEST:
        return "an answer", f"in the test of task {event.task_id} after step {event.step}"
    return "the loss", f"at step {event.step} (task {event.task_id}), epoch {event.epoch}"


def warn_untrained(found: Mapping[int, int], seeds: Sequence[int]) -> None:
    """Say that seeds answer with NaN before they have learned anything: there is nothing to stop yet."""
    place, task = next(iter(found.items()))
    LOG.warning(
        "an answer of seed %d is nan in the test of task %d before anything is learned: the score is that of chance",
        seeds[place],
        task,
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
