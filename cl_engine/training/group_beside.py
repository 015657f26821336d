"""Rows of tasks that ask for something else than those a fit is about, batch by batch, beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cl_engine.training.fit_job import RowsBeside


class GroupBeside:
    """One such group of rows, as a seed group learns it: its order in an epoch, and its loss on a batch.

    >>> GroupBeside.__name__  # made by `SeedGroup`
    'GroupBeside'
    """

    def __init__(self, owner: Any, more: RowsBeside, number: int) -> None:
        """Belong to a `SeedGroup`; ``number`` tells the group from others beside the same rows."""
        self._owner, self._more, self._number = owner, more, number
        device = owner.job.net.device
        own = more.rows if more.rehearsed is None else map(owner.part, more.rows)
        self._rows = tuple(rows.to(device) for rows in own)
        self._loss: Callable[..., Tensor] = owner.of_each(more.loss, len(self._rows))

    def start_epoch(self, epoch: int, batches: int) -> None:
        """Draw the order of the rows, or which are rehearsed in every batch."""
        owner, more = self._owner, self._more
        purpose = f"beside {self._number}"
        drawn = []
        for seed in owner.seeds:
            draw = owner.generator(seed, purpose, epoch)
            if more.rehearsed is None:
                drawn.append(torch.randperm(len(self._rows[0]), generator=draw))
            else:
                held = self._rows[0].shape[owner.rows_axis]
                drawn.append(torch.randint(held, (batches, more.rehearsed), generator=draw))
        self._drawn = torch.stack(drawn).to(owner.job.net.device)

    def losses(self, batch: int, batches: int) -> tuple[Tensor | None, int]:
        """Return the loss of each seed on this group's rows of a batch, and how many they are; None for none."""
        owner, net = self._owner, self._owner.job.net
        if self._more.rehearsed is None:
            index = self._drawn[:, owner.job.places(len(self._rows[0]), batch, batches)]
            picked = [owner.pick(rows, index) for rows in self._rows]
        else:
            index = self._drawn[:, batch]
            picked = [owner.pick_own(rows, index) for rows in self._rows]
        if not index.shape[1]:
            return None, 0
        x = net.laid_out(net.prepare(picked[0]))
        return self._loss(owner.params, owner.frozen, x, *picked[1:]), index.shape[1]
