"""Which rows a memory of fixed size keeps, by the group that each is of: a class of a task, mostly.

What is kept is told by index, so that seeds can choose differently. How many are kept depends on numbers of rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Index = np.ndarray
OneByOne = Literal["balanced", "ring", "greedy"]
ONE_BY_ONE: dict[str, OneByOne] = {how: how for how in get_args(OneByOne)}


class GroupSlots:
    """Places of a memory, which rows that arrive one by one take or leave, by the groups of the rows in them.

    While there is a free place, a row takes it. Then a row whose group has less than an equal share takes the place of one of the
    largest group. What becomes of a row of another group is where the ways to choose differ:

    - ``greedy``: it is left (GDumb, Prabhu et al. 2020, algorithm 1, which leaves it while there are free places, too).
    - ``ring``: it takes the place of the oldest of its group (ring buffer, Chaudhry et al. 2019); where a group has more than its
      share, that gives its oldest.
    - ``balanced``: it takes the place of any of its group, so that each of the group's rows is kept with the same probability
      (class-balancing reservoir sampling, Chrysakis & Moens 2020); rows of a group before these are those that were held.

    What a row costs does not depend on how many are held.

    >>> slots = GroupSlots([0, 0, 0], 3, "ring", np.random.default_rng(0))
    >>> [slots.take(group) for group in (1, 0)]
    [0, 1]
    """

    def __init__(self, held: Sequence[int], room: int, how: OneByOne, draw: np.random.Generator) -> None:
        """Begin with rows of these groups, from the oldest; ``room`` is how many places there are."""
        self._room, self._how, self._draw, self._taken = room, how, draw, len(held)
        self._members: dict[int, list[int]] = {}
        for place, group in enumerate(held):
            self._members.setdefault(group, []).append(place)
        self._seen = {group: len(places) for group, places in self._members.items()}

    def take(self, group: int) -> int | None:
        """Return the place that a row of this group takes; None: it is left."""
        if not self._room:
            return None
        own = self._members.setdefault(group, [])
        self._seen[group] = self._seen.get(group, 0) + 1
        if self._taken < self._room:
            place = self._taken
            self._taken += 1
        else:
            if len(own) * len(self._members) < self._room:
                givers = max(self._members.values(), key=len)
            elif self._how == "greedy" or (
                self._how == "balanced" and self._draw.random() * self._seen[group] >= len(own)
            ):
                return None
            else:
                givers = own
            place = givers.pop(0 if self._how == "ring" else int(self._draw.integers(len(givers))))
        own.append(place)
        return place

    def taken_by(self, groups: Sequence[int], held: int) -> Index:
        """Return which row is in each place, of those held and those of these groups that arrive behind them."""
        rows = list(range(held))
        for row, group in enumerate(groups, start=held):
            place = self.take(group)
            if place is None:
                continue
            if place == len(rows):
                rows.append(row)
            else:
                rows[place] = row
        return np.array(rows, np.int64)


def in_equal_shares(groups: Index, order: Index, room: int) -> Index:
    """Return the first rows of each group in an order, so that every group has as equal a share of ``room`` as it has rows for.

    ``groups [N]`` is the group of each row; returned are indices, group after group, each group's in that order.
    """
    members = [order[groups[order] == group] for group in np.unique(groups)]
    kept: list[Index] = []
    # the smallest groups first, so that what they leave free goes to the others
    for position, rows in enumerate(sorted(members, key=len)):
        share = (room - sum(map(len, kept))) // (len(members) - position)
        kept.append(rows[:share])
    return np.concatenate(kept)


def newest(groups: Index, held: int, room: int, draw: np.random.Generator) -> Index:
    """Return the newest rows of each group, the oldest first; those behind the ``held`` ones come in a drawn order."""
    age = np.concatenate([np.arange(held), held + draw.permutation(len(groups) - held)])
    chosen = in_equal_shares(groups, age[::-1], room)
    rank = np.empty_like(age)
    rank[age] = np.arange(len(age))
    return chosen[np.argsort(rank[chosen])]


def greedily(groups: Index, held: int, room: int, draw: np.random.Generator, as_they_come: bool = False) -> Index:
    """Return the rows that `GroupSlots` keeps greedily; those behind the ``held`` ones come in a drawn order, or in their own."""
    new = len(groups) - held
    arrived = held + (np.arange(new) if as_they_come else draw.permutation(new))
    slots = GroupSlots(groups[:held].tolist(), room, "greedy", draw)
    order = np.concatenate([np.arange(held), arrived])
    kept: Index = order[slots.taken_by(groups[arrived].tolist(), held)]
    return kept


def herded(features: Tensor, groups: Index, held: Index, room: int) -> Index:
    """Return the rows of each group whose means come nearest to the group's, group after group, the most telling first.

    This is herding (Rebuffi et al. 2017, algorithm 4). Of a group without rows behind the ``held`` ones, the first are kept, in
    the order that these are given in: that of an earlier choice. ``features [N, D]`` are brought to length 1.
    """
    count = np.bincount(groups[in_equal_shares(groups, np.arange(len(groups)), room)], minlength=groups.max() + 1)
    order = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if rows[-1] >= len(held):
            own = F.normalize(features[torch.from_numpy(rows).to(features.device)].double(), dim=1)
            rows = rows[herding(own, int(count[group]))]
        else:
            rows = held[groups[held] == group]
        order.append(rows)
    return in_equal_shares(groups, np.concatenate(order), room)


def herding(features: Tensor, count: int) -> Index:
    """Return ``count`` rows, each chosen so that the mean of those chosen comes nearest to the mean of all ``[N, D]``.

    The rows are of length 1: then the next is the one whose product with k μ − Σ of those chosen is the greatest.

    >>> herding(torch.eye(2)[[0, 0, 1]], 3).tolist()
    [0, 2, 1]
    """
    mean = features.mean(dim=0)
    wanted, left = mean.clone(), torch.zeros(len(features), dtype=features.dtype, device=features.device)
    chosen = []
    for _ in range(min(count, len(features))):
        row = int((features @ wanted + left).argmax())
        left[row] = -torch.inf
        wanted = wanted + mean - features[row]
        chosen.append(row)
    return np.array(chosen, np.int64)
