"""Rows: inputs and labels of a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import RowsOfSeeds, no_labels


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Rows of a task: inputs and labels.

    >>> data = Data(torch.zeros(3, 4), torch.tensor([0, 0, 1]))
    >>> len(data), len(data.spread(2))
    (3, 2)

    Attributes:
        x: inputs ``[N, *shape]``; uint8 as stored for images, float32 otherwise. `Net` scales them.
        y: labels ``[N, …]`` in the form of the task's target; of classes ``[N]``, int64, local to the task, or global in the
            ``class`` setting.
        resample: given a number to draw from, returns ``x`` as random transformations show it this time; None: always alike.
        index: which rows of the stream's source these are ``[N]``, where several tasks ask about the same; None: not told.
        of_seeds: the rows of every seed, where each has its own; ``x`` and ``y`` are then those of the first.
    """

    x: Tensor
    y: Tensor
    resample: Callable[[int], Tensor] | None = None
    index: Tensor | None = None
    of_seeds: RowsOfSeeds | None = None

    def __len__(self) -> int:
        return len(self.y)

    def of(self, place: int) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels that the seed at this place has: those of all, unless each has its own."""
        return (self.x, self.y) if self.of_seeds is None else self.of_seeds.of(place)

    def spread(self, most: int) -> Data:
        """Return at most ``most`` rows, evenly spread over the rows sorted by class, so that each class has its share.

        Where rows have no class they are spread over the rows as they come.
        """
        if len(self) <= most:
            return self
        index = torch.linspace(0, len(self) - 1, most).long().to(self.y.device)
        if self.y.ndim == 1:
            index = torch.argsort(self.y, stable=True)[index]
        return Data(self.x[index], self.y[index])

    def shuffled(self, seed: int = 0) -> Data:
        """Return the rows in an order that depends on ``seed`` and their number alone, and tells nothing of their classes."""
        order = torch.from_numpy(rng.arrays(seed, "order of rows", len(self)).permutation(len(self)))
        return self.at(order.to(self.y.device))

    def at(self, rows: Tensor) -> Data:
        """Return the rows with these indices ``[M]``, in that order."""
        again, own = self.resample, self.of_seeds
        return Data(
            self.x.index_select(0, rows),
            self.y[rows],
            resample=None if again is None else lambda draw: again(draw)[rows],
            index=None if self.index is None else self.index[rows.to(self.index.device)],
            of_seeds=None if own is None else own.shuffled(rows),
        )

    def without_labels(self) -> Data:
        """Return the rows with −1 in the place of every label; 255 where labels are bytes."""
        own = None if self.of_seeds is None else self.of_seeds.without_labels()
        return dataclasses.replace(self, y=no_labels(self.y), of_seeds=own)
