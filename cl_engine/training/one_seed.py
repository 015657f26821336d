"""A seed of a fit that trains by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cl_engine.core.tree import Tree, tree_map
from cl_engine.training.fit_job import FitJob
from cl_engine.training.fit_observer import is_labelled_batch
from cl_engine.training.seed_group import SeedGroup


class OneSeed(SeedGroup):
    """A single seed of a fit, bit-identical to itself alone.

    >>> OneSeed.rows_axis  # a batch is [B, …]
    0
    """

    rows_axis = 0

    def __init__(self, job: FitJob, number: int) -> None:
        """Take the ``number``-th seed of the job."""
        self._number = number
        super().__init__(job, [job.seeds[number]])

    def part(self, leaf: Tensor) -> Tensor:
        return leaf[min(self._number, len(leaf) - 1)]

    def of_each(self, loss: Callable[..., Tensor], tensors: int) -> Callable[..., Tensor]:
        return loss

    def of_one(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        return function

    def _placed(self, leaf: Tensor) -> Tensor:
        return self.job.net.laid_out(leaf)

    def pick(self, rows: Tensor, index: Tensor) -> Tensor:
        return rows.index_select(0, index[0])

    def pick_own(self, rows: Tensor, index: Tensor) -> Tensor:
        return rows.index_select(0, index[0])

    def of_seeds(self, index: Tensor) -> tuple[Tensor, Tensor]:
        assert self.job.of_seeds is not None
        return self.job.of_seeds.of(self._number, index[0])

    def _own_rows(self, of_each: list[Tensor]) -> Tensor:
        return of_each[0]

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[S, N, C]``."""
        assert self.job.logits is not None
        net = self.job.net
        parts = [
            self.job.logits(self.answering, self.frozen, net.laid_out(net.prepare(part))) for part in net.chunks(x)
        ]
        return torch.cat(parts).unsqueeze(0)

    def whole(self) -> Tree:
        """Return the tree as it answers now, tensors ``[S, …]``."""
        return tree_map(lambda leaf: leaf.detach().contiguous().unsqueeze(0), self.answering)

    def _shown_to_observer(self, rows: list[Tensor]) -> tuple[Tensor, Tensor] | None:
        if self.job.observer is None or not is_labelled_batch(rows):
            return None
        own = len(rows[0]) - self.job.rehearsed
        return rows[0][:own], rows[1][:own]
