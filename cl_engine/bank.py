"""Rows of one tensor, one row a task: how a state grows without getting slow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Bank:
    """A tensor ``[S, n, *shape]`` that grows by rows along its second axis.

    Room is kept for more rows than are held, so that appending costs the same for the thousandth row as for the tenth;
    only held rows are saved and counted. `writes` says how often a row was written, which makes a `fingerprint` of
    whatever depends on that row alone.
    """

    GROWTH = 1.25

    def __init__(self, rows: Tensor, writes: Sequence[int] | None = None) -> None:
        """Start from ``rows [S, n, *shape]``, which are copied."""
        self._storage = rows.detach().clone()
        self._held = rows.shape[1]
        self._writes = list(writes) if writes is not None else [1] * self._held

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

    @property
    def rows(self) -> Tensor:
        """All rows held, ``[S, n, *shape]`` (a view)."""
        return self._storage[:, : self._held]

    @property
    def written(self) -> tuple[int, ...]:
        """How often each row was written."""
        return tuple(self._writes)

    def writes(self, index: int) -> int:
        """Return how often a row was written; 0 if there is no such row yet."""
        return self._writes[index] if index < self._held else 0

    def put(self, index: int, row: Tensor) -> None:
        """Write ``row [S, *shape]`` over row ``index``, or append it if ``index`` is the number of rows held."""
        if index > self._held:
            raise IndexError(f"row {index} cannot follow the {self._held} rows held: rows are added one by one")
        if index == self._held:
            if self._held == self._storage.shape[1]:
                seeds, room, *shape = self._storage.shape
                grown = self._storage.new_empty(seeds, max(4, room + 1, int(room * self.GROWTH)), *shape)
                grown[:, :room] = self._storage
                self._storage = grown
            self._held += 1
            self._writes.append(0)
        self._storage[:, index] = row.detach()
        self._writes[index] += 1
