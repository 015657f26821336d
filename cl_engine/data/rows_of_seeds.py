"""Rows that each seed has its own of: chosen by index from inputs that are held once, and seen in the seed's own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

View = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class ChosenRows:
    """Rows of a task: which of the inputs ``held [M, …]`` by one half of a source, by index ``[N]``, and their labels ``[N]``.

    >>> import torch
    >>> ChosenRows(torch.zeros(5, 2), torch.tensor([4, 0]), torch.tensor([1, 0])).index.tolist()
    [4, 0]
    """

    held: Tensor
    index: Tensor
    y: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RowsOfSeeds:
    """Rows of a task, as many for each seed, by index into inputs that all of them share.

    >>> import torch
    >>> held, order = torch.arange(4.0).unsqueeze(1), torch.tensor([[3, 1], [0, 2]])
    >>> rows = RowsOfSeeds(held, order, torch.tensor([[0, 1], [1, 0]]), [lambda x: x, lambda x: -x])
    >>> len(rows), rows.of(1)[0].tolist()
    (2, [[0.0], [-2.0]])

    Attributes:
        held: inputs of the source ``[M, *shape]``, as stored.
        index: which of them the rows of each seed are ``[S, N]``.
        y: labels of each seed ``[S, N]``.
        views: how each seed sees inputs: a function of inputs ``[B, *shape]`` that gives as many.
    """

    held: Tensor
    index: Tensor
    y: Tensor
    views: Sequence[View]

    def __len__(self) -> int:
        return self.index.shape[1]

    def of(self, place: int, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of the seed at this place: all of its rows, or those at ``rows [B]``."""
        index, y = self.index[place], self.y[place]
        if rows is not None:
            index, y = index.index_select(0, rows), y.index_select(0, rows)
        return self.views[place](self.held.index_select(0, index)), y

    def shuffled(self, order: Tensor) -> RowsOfSeeds:
        """Return the rows of all seeds in this order ``[N]``."""
        return replace(self, index=self.index[:, order], y=self.y[:, order])
