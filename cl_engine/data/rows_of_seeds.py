"""Rows that each seed has its own of: chosen by index from inputs that are held once, and seen in the seed's own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng

Half = Literal["train", "test"]
Together = Callable[[Tensor, Tensor], Tensor]


class Lens:
    """A way to see inputs: a function of inputs ``[B, *shape]`` that gives as many, of the same type.

    A kind of lens says in `together` how those of several seeds are taken at once, where there is a faster way than in turn.

    >>> Lens()(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return inputs as they are seen, given which rows of what is held they are ``[B]``; here as they are."""
        return x

    @staticmethod
    def together(lenses: Sequence[Lens]) -> Together:
        """Return a function of inputs ``[S, B, *shape]`` and rows, each seed's seen by its own of lenses of one kind."""
        if all(type(lens) is Lens for lens in lenses):
            return lambda x, rows: x
        return lambda x, rows: torch.stack([lens(*own) for lens, *own in zip(lenses, x, rows, strict=True)])


class Transformed(Lens):
    """A lens by any function.

    >>> Transformed(torch.neg)(torch.ones(1)).item()
    -1.0
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        return self._function(x)


class ByRow(Lens):
    """A lens that shows each row its own way: a function of inputs and their rows, an array ``[B]``.

    >>> ByRow(lambda x, rows: x * float(rows.max()))(torch.ones(2, 1), torch.tensor([3, 4])).tolist()
    [[4.0], [4.0]]
    """

    def __init__(self, function: Callable[[Tensor, np.ndarray], Tensor]) -> None:
        self._function = function

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        assert rows is not None
        return self._function(x, rows.cpu().numpy())


class Reordered(Lens):
    """A lens of inputs whose numbers are in another order ``[P]``, P the numbers of an input.

    >>> Reordered(torch.tensor([1, 0]))(torch.tensor([[3, 4]])).tolist()
    [[4, 3]]
    """

    def __init__(self, order: Tensor) -> None:
        self.order = order

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        # four times as fast as index_select
        return x.flatten(1).gather(1, self.order.expand(len(x), -1)).reshape(x.shape)

    @staticmethod
    def together(lenses: Sequence[Lens]) -> Together:
        orders = torch.stack([lens.order for lens in lenses if isinstance(lens, Reordered)]).unsqueeze(1)
        return lambda x, rows: x.flatten(2).gather(2, orders.expand(-1, x.shape[1], -1)).reshape(x.shape)


class Added(Lens):
    """A lens of inputs to which an input ``[*shape]`` is added.

    >>> Added(torch.tensor([0.0, 1.0]))(torch.zeros(1, 2)).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, offset: Tensor) -> None:
        self.offset = offset

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        return x + self.offset

    @staticmethod
    def together(lenses: Sequence[Lens]) -> Together:
        offsets = torch.stack([lens.offset for lens in lenses if isinstance(lens, Added)]).unsqueeze(1)
        return lambda x, rows: x + offsets


@dataclass(frozen=True, slots=True, eq=False)
class ChosenRows:
    """Rows of a task: which of the inputs ``held [M, …]`` by one half of a source, by index ``[N]``, and their labels ``[N, …]``.

    >>> ChosenRows(torch.zeros(5, 2), torch.tensor([4, 0]), torch.tensor([1, 0])).index.tolist()
    [4, 0]
    """

    held: Tensor
    index: Tensor
    y: Tensor
    half: Half = "train"


class RowsOfSeeds:
    """Rows of a task, as many for each seed, by index into inputs that all of them share.

    >>> held, index = torch.arange(4.0).unsqueeze(1), torch.tensor([[3, 1], [0, 2]])
    >>> rows = RowsOfSeeds(held, index, torch.tensor([[0, 1], [1, 0]]), [Lens(), Added(torch.ones(1))])
    >>> len(rows), rows.of(1)[0].tolist()
    (2, [[1.0], [3.0]])

    Attributes:
        held: inputs of the source ``[M, *shape]``, as stored.
        index: which of them the rows of each seed are ``[S, N]``.
        y: labels of each seed ``[S, N, …]``.
        lenses: how each seed sees inputs.
    """

    def __init__(self, held: Tensor, index: Tensor, y: Tensor, lenses: Sequence[Lens]) -> None:
        self.held, self.index, self.y, self.lenses = held, index, y, list(lenses)
        kinds = {type(lens) for lens in self.lenses}
        self._together = (kinds.pop() if len(kinds) == 1 else Lens).together(self.lenses)
        self._seeds = torch.arange(len(index), device=index.device).unsqueeze(1)

    def __len__(self) -> int:
        return self.index.shape[1]

    def of(self, place: int, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of the seed at this place: all of its rows, or those at ``rows [B]``."""
        index, y = self.index[place], self.y[place]
        if rows is not None:
            index, y = index.index_select(0, rows), y.index_select(0, rows)
        return self.lenses[place](self.held.index_select(0, index), index), y

    def of_all(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and labels ``[S, B, …]`` of all seeds, those at ``rows [S, B]``."""
        index = self.index.gather(1, rows)
        return self._together(self.held[index], index), self.y[self._seeds, rows]

    def part(self, places: slice) -> RowsOfSeeds:
        """Return the rows of the seeds at these places."""
        return RowsOfSeeds(self.held, self.index[places], self.y[places], self.lenses[places])

    def shuffled(self, order: Tensor) -> RowsOfSeeds:
        """Return the rows of all seeds in this order ``[N]``."""
        return RowsOfSeeds(self.held, self.index[:, order], self.y[:, order], self.lenses)

    def without_labels(self) -> RowsOfSeeds:
        """Return the rows of all seeds without a label (`no_labels`)."""
        return RowsOfSeeds(self.held, self.index, no_labels(self.y), self.lenses)


def no_labels(y: Tensor) -> Tensor:
    """Return −1 in the place of every label; 255 where labels are bytes."""
    return torch.full_like(y, -1 if y.dtype.is_signed else 255)


def divided(count: int, share: float, seed: int, *purpose: str | int) -> tuple[Tensor, Tensor]:
    """Return which of so many rows keep their labels, and which do not, drawn whatever these are; each in order."""
    drawn = torch.from_numpy(rng.arrays(seed, "unlabelled", *purpose).permutation(count))
    hidden = round(count * share)
    return drawn[hidden:].sort().values, drawn[:hidden].sort().values
