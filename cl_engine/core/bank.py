"""Rows of one tensor, one row a task: how a state grows without getting slow."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

_clock = count(1)


class Bank:
    """A tensor ``[S, n, *shape]`` that grows by rows along its second axis.

    Room is kept for more rows than are held, so that appending costs the same for the thousandth row as for the tenth;
    only held rows are saved and counted. `writes` says how often a row was written, which makes a `fingerprint` of
    whatever depends on that row alone. Rows are changed by methods only: what is saved again is told from that.

    >>> bank = Bank.empty(2, (3,))
    >>> bank.put(0, torch.ones(2, 3))
    >>> len(bank), bank[0].shape, bank.writes(0)
    (1, torch.Size([2, 3]), 1)
    """

    GROWTH = 1.1

    def __init__(self, rows: Tensor, writes: Sequence[int] | np.ndarray | None = None) -> None:
        """Start from ``rows [S, n, *shape]``, which are copied."""
        self._storage = rows.detach().clone()
        self._held = rows.shape[1]
        # no array of NumPy's, which takes five times as long for one number
        self._writes = array("q", map(int, writes if writes is not None else [1] * self._held))
        self._stamps = np.array([next(_clock) for _ in range(self._held)], dtype=np.int64)
        self._numbers: dict[int, tuple[Any, ...]] = {}

    @classmethod
    def empty(
        cls, seeds: int, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> Bank:
        """Return a bank without rows."""
        return cls(torch.empty(seeds, 0, *shape, dtype=dtype, device=device))

    def __len__(self) -> int:
        return self._held

    def __getitem__(self, index: int) -> Tensor:
        """Return row ``index`` as ``[S, *shape]`` (a view)."""
        if not 0 <= index < self._held:
            raise IndexError(f"row {index} of a bank that holds {self._held}")
        return self._storage[:, index]

    def of_seed(self, place: int) -> Bank:
        """Return a bank, to be read alone, of the rows of the seed at this place, its axis of seeds of length 1 (a view)."""
        if len(self._storage) == 1:
            return self
        own = copy.copy(self)
        own._storage, own._numbers = self._storage[place : place + 1], {}
        return own

    @property
    def rows(self) -> Tensor:
        """All rows held, ``[S, n, *shape]`` (a view)."""
        return self._storage[:, : self._held]

    @property
    def written(self) -> np.ndarray:
        """How often each row was written, ``[n]``."""
        return np.array(self._writes[: self._held], dtype=np.int64)

    @property
    def stamps(self) -> np.ndarray:
        """A number for each row ``[n]`` that no other write in this process has: the same number, the same row."""
        return self._stamps[: self._held].copy()

    def numbers(self, index: int) -> tuple[Any, ...]:
        """Return row ``index`` of what the seeds share as numbers, read from the tensor once until it is written again."""
        if index not in self._numbers:
            self._numbers[index] = tuple(self[index][0].tolist())
        return self._numbers[index]

    def writes(self, index: int) -> int:
        """Return how often a row was written; 0 if there is no such row yet."""
        return self._writes[index] if index < self._held else 0

    def put(self, index: int, row: Tensor) -> None:
        """Write ``row [S, *shape]`` over row ``index``, or append it if ``index`` is the number of rows held."""
        if index > self._held:
            raise IndexError(f"row {index} cannot follow the {self._held} rows held: rows are added one by one")
        if index == self._held:
            if self._held == self._storage.shape[1]:
                self._make_room()
            self._held += 1
        self._storage[:, index] = row.detach()
        self._writes[index] += 1
        self._stamps[index] = next(_clock)
        self._numbers.pop(index, None)

    def put_again(self, indices: Tensor, rows: Tensor) -> None:
        """Write ``rows [S, n, *shape]`` over different rows ``indices [n]`` that are held."""
        places = indices.cpu().numpy()
        if len(places) and not 0 <= places.min() <= places.max() < self._held:
            raise IndexError(f"rows {places.tolist()} of a bank that holds {self._held}")
        self._storage[:, indices] = rows.detach()
        for place in places.tolist():
            self._writes[place] += 1
        self._stamps[places] = [next(_clock) for _ in places]
        self._numbers.clear()

    def keep_first(self, count: int) -> None:
        """Drop the rows after the first ``count``; how often their places were written goes on being counted."""
        self._held = min(self._held, max(0, count))
        self._numbers.clear()

    def _make_room(self) -> None:
        seeds, held, *shape = self._storage.shape
        room = max(4, held + 1, int(held * self.GROWTH))
        grown = self._storage.new_empty(seeds, room, *shape)
        grown[:, :held] = self._storage
        self._storage = grown
        self._writes.extend([0] * (room - len(self._writes)))
        self._stamps = np.concatenate([self._stamps, np.zeros(room - len(self._stamps), dtype=np.int64)])


def empty_banks(tensors: Mapping[str, Tensor], without: Collection[str] = ()) -> dict[str, Bank]:
    """Return a bank without rows for each of these tensors ``[S, …]``, for rows like it, but for the names ``without``."""
    return {
        name: Bank.empty(len(row), row.shape[1:], row.dtype, row.device)
        for name, row in tensors.items()
        if name not in without
    }
