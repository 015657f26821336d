"""Strategies walked along a stream, and asked for answers on the way."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.tree import Path, leaves_with_path
from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Event, Progress, ScoresReused, TaskLearned, TaskTested
from cl_engine.experiment import Experiment
from cl_engine.strategy import Strategy


def walk(experiment: Experiment) -> tuple[Stream, Strategy, Iterator[Event]]:
    """Return the stream and the strategy of an experiment, and the events of the one walked along the other."""
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    return stream, strategy, simulate(stream, strategy, plan(stream, experiment.agenda))


def after_each_task(experiment: Experiment) -> Iterator[tuple[Stream, Strategy]]:
    """Yield the stream and the strategy after each experience."""
    stream, strategy, events = walk(experiment)
    for event in events:
        if isinstance(event, TaskLearned):
            yield stream, strategy


def told(stream: Stream, task: int) -> int | None:
    """Return the task as it is told at test time."""
    return task if stream.setting == "task" else None


def answers(stream: Stream, strategy: Strategy, task: int) -> Tensor:
    """Return the logits ``[S, N, C]`` for the test rows of a task."""
    return strategy.predict(stream.test(task).x, told(stream, task))


def contents(state: dict[str, Any]) -> dict[Path, Any]:
    """Return a copy of all leaves of a state, of banks their rows."""
    return {
        path: leaf.rows.clone() if isinstance(leaf, Bank) else copy.copy(leaf) for path, leaf in leaves_with_path(state)
    }


def different(one: dict[Path, Any], other: dict[Path, Any]) -> list[str]:
    """Return the names of the leaves in which two states differ."""
    return [
        "/".join(map(str, path))
        for path in sorted(one.keys() | other.keys(), key=str)
        if path not in one or path not in other or not _alike(one[path], other[path])
    ]


def traced(event: Event) -> list[list[Any]]:
    """Return an event's exact facts: kind and integers, but not what rounding may change from machine to machine."""
    if isinstance(event, Progress):
        return []
    inexact = {"score", "sums", "loss", "acc", "bwt", "fwt", "forgetting", "losses", "errors"}
    names = [f.name for f in fields(event) if f.compare and f.name not in inexact]
    values = {name: getattr(event, name) for name in names}
    if isinstance(event, TaskTested) and all(len(own) == 2 for own in event.sums):
        values["n_total"] = event.n_total
    if isinstance(event, ScoresReused) and event.sums.shape[2] == 2:
        values["n_total"] = event.sums[:, 0, 1].astype(int)
    exact = {name: value for name, value in values.items() if not _holds_floats(value)}
    return [[type(event).__name__, {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in exact.items()}]]


def _holds_floats(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, tuple) and any(isinstance(v, float) for v in value))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return (
            isinstance(one, Tensor)
            and isinstance(other, Tensor)
            and one.shape == other.shape
            and bool((one == other).all())
        )
    return bool(np.array_equal(one, other))
