"""Rows of past tasks: in groups of tasks that ask for the same, and which of them a memory of fixed size keeps.

What is kept is chosen by index, so that seeds can choose differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.nn.target import Target

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


def keep_rows(state: State, part: str, target_of: Callable[[int], Target], experience: Experience) -> None:
    """Add all rows of an experience to those kept in a ``part`` of the state, shared by the seeds, and the task of each."""
    x, y, task = experience.train.x, experience.train.y, experience.task_id
    new = {"x": x, "y": y, "t": torch.full((len(y),), task, dtype=torch.int64, device=y.device)}
    name = group_name(part, group_of(target_of, task))
    data, kept = {key: rows.unsqueeze(0) for key, rows in new.items()}, state.get(name)
    state[name] = data if kept is None else {key: torch.cat([kept[key], rows], dim=1) for key, rows in data.items()}


def kept_rows(state: State, part: str) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Return what `keep_rows` has kept in a ``part``, by group: inputs, labels and tasks."""
    held = {group: state[name] for group, name in groups_in(state, part).items()}
    return {group: (data["x"][0], data["y"][0], data["t"][0]) for group, data in held.items()}


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


def balanced(groups: Index, room: int, draw: np.random.Generator) -> Index:
    """Return the rows kept so that every group has as equal a share of ``room`` as there are rows for.

    ``groups [N]`` is the group (a class of a task) of each row held or new. Within a group the choice is uniform.
    """
    order = draw.permutation(len(groups))
    members = [order[groups[order] == group] for group in np.unique(groups)]
    kept: list[Index] = []
    # the smallest groups first, so that what they leave free goes to the others
    for position, rows in enumerate(sorted(members, key=len)):
        share = (room - sum(map(len, kept))) // (len(members) - position)
        kept.append(rows[:share])
    return np.sort(np.concatenate(kept))
