"""Rows of past tasks: in groups of tasks that ask for the same, and which of them a memory of fixed size keeps.

What is kept is chosen by index, so that seeds can choose differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Data
from cl_engine.nn.target import Target
from cl_engine.training.selection import in_equal_shares

Index = np.ndarray


def group_of(target_of: Callable[[int], Target], task_id: int) -> int:
    """Return the group that a task's rows are kept in: the first task that asks for the same."""
    wanted = target_of(task_id).key
    return next(task for task in range(task_id + 1) if target_of(task).key == wanted)


def group_name(part: str, group: int) -> str:
    """Return the name in a state of a group's rows: that of the ``part`` alone for those of the first task."""
    return f"{part}_{group}" if group else part


def groups_in(state: Mapping[str, Any], part: str) -> dict[int, str]:
    """Return the groups whose rows a state has in a ``part``, and their names there."""
    names = [name for name in state if name == part or name.removeprefix(f"{part}_").isdecimal()]
    return dict(sorted((int(name.removeprefix(part).removeprefix("_") or 0), name) for name in names))


def keep_rows(state: dict[str, Any], name: str, rows: Data, task_id: int) -> None:
    """Add rows of a task to those that a part of a state keeps, shared by the seeds: ``x``, ``y`` and ``t``, ``[1, N, …]``."""
    new = {"x": rows.x, "y": rows.y, "t": torch.full((len(rows),), task_id, dtype=torch.int64, device=rows.y.device)}
    data, kept = {part: own.unsqueeze(0) for part, own in new.items()}, state.get(name)
    state[name] = data if kept is None else {part: torch.cat([kept[part], own], dim=1) for part, own in data.items()}


def rows_fitted_together(rows: Sequence[int], asked: Sequence[str]) -> list[list[int]]:
    """Return how many rows there are of each group at every experience where all are kept, given how many come of what."""
    kept, groups = Counter[str](), []
    for count, kind in zip(rows, asked, strict=True):
        kept[kind] += count
        groups.append(list(kept.values()))
    return groups


def kept_rows(state: State, part: str) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Return what `keep_rows` has kept in a ``part``, by group: inputs, labels and tasks."""
    held = {group: state[name] for group, name in groups_in(state, part).items()}
    return {group: (data["x"][0], data["y"][0], data["t"][0]) for group, data in held.items()}


def rows_by_task(state: State, part: str) -> dict[int, tuple[Tensor, Tensor]]:
    """Return inputs and labels of every task whose rows `keep_rows` has kept in a ``part``, in the order of tasks."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for x, y, t in kept_rows(state, part).values():
        for task in t.unique().tolist():
            found[task] = (x[t == task], y[t == task])
    return dict(sorted(found.items()))


def reservoir(held: int, seen: int, new: int, room: int, draw: np.random.Generator) -> Index:
    """Return the rows kept, as indices into the ``held`` rows followed by the ``new`` ones (Vitter 1985, algorithm R).

    Of all rows ever seen (``seen`` before the new ones), each is among the ``room`` kept with equal probability.
    """
    slots = np.arange(held)
    free = min(room - held, new)
    slots = np.concatenate([slots, held + np.arange(free)])
    arrivals = np.arange(free, new)
    places = draw.integers(0, seen + arrivals + 1)
    replaced = places < room
    slots[places[replaced]] = held + arrivals[replaced]
    return slots


def as_rows_arrive(
    held: int,
    rows: int,
    arrival: int,
    visits: int,
    share: int,
    keep: Callable[[Index, int], Index],
    draw: np.random.Generator,
) -> tuple[Index, Index]:
    """Return which rows join each batch while rows arrive, and which are kept in the end, where a memory takes in every arrival.

    Both are indices into the ``held`` rows, of which there must be one, followed by the ``rows`` that arrive.

    Args:
        held, rows: their numbers.
        arrival: how many arrive at a time.
        visits: batches of each arrival, before the memory takes it in.
        share: how many rows of the memory join a batch, drawn with replacement.
        keep: ``keep(rows, before)``, given the rows of the memory and of an arrival behind them, and how many rows arrived
            before, returns the places of those that the memory keeps.
        draw: what to draw from.

    Returns:
        Rows ``[batches, share]``, and rows ``[room]``.
    """
    slots = np.arange(held)
    joined = np.empty((-(-rows // arrival), visits, share), np.int64)
    for number, begin in enumerate(range(0, rows, arrival)):
        joined[number] = slots[draw.integers(0, len(slots), (visits, share))]
        there = np.concatenate([slots, np.arange(held + begin, held + min(begin + arrival, rows))])
        slots = there[keep(there, begin)]
    return joined.reshape(-1, share), slots


def balanced(groups: Index, room: int, draw: np.random.Generator) -> Index:
    """Return the rows kept so that every group has as equal a share of ``room`` as there are rows for.

    ``groups [N]`` is the group (a class of a task) of each row held or new. Within a group the choice is uniform.
    """
    return np.sort(in_equal_shares(groups, draw.permutation(len(groups)), room))


def shares_of(y: Tensor, t: Tensor) -> np.ndarray:
    """Return what has an equal share of a balanced memory: the class of a task that each row is of, or its task."""
    labels = y if y.ndim == 1 and not y.is_floating_point() else torch.zeros_like(t)
    found = np.unique(torch.stack([t, labels], dim=1).cpu().numpy(), axis=0, return_inverse=True)
    return np.asarray(found[1])
