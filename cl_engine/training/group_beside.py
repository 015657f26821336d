"""Rows of tasks that ask for something else than those a fit is about, batch by batch, beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        """Belong to a `SeedGroup`; ``number``, from 1, tells the group from others beside the same rows."""
        self._owner, self._more, self._number = owner, more, number
        device = owner.job.net.device
        own = more.rows if more.rehearsed is None else map(owner.part, more.rows)
        self._rows = tuple(rows.to(device) for rows in own)
        self._augmented = bool(owner.augmentation) and more.augmented
        self._loss = None if more.loss is None else owner.of_each(more.loss, len(self._rows))

    def start_epoch(self, epoch: int, batches: int) -> None:
        """Draw the order of the rows, or which are rehearsed in every batch, and how their images are shown."""
        owner, more = self._owner, self._more
        held, rehearsed = (0, more.rehearsed) if more.rehearsed is not None else (len(self._rows[0]), 0)

        def drawn(purpose: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
            every = [draw(owner.generator(seed, f"{purpose} {self._number}", epoch)) for seed in owner.seeds]
            return torch.stack(every).to(owner.job.net.device)

        if rehearsed:
            kept = self._rows[0].shape[owner.rows_axis]
            self._drawn = drawn("beside", lambda draw: torch.randint(kept, (batches, rehearsed), generator=draw))
        else:
            self._drawn = drawn("beside", lambda draw: torch.randperm(held, generator=draw))
        if self._augmented:
            shown = held + batches * rehearsed
            self._changes = drawn("augmentation beside", lambda draw: owner.augmentation.draw(shown, draw))

    def losses(self, batch: int, numbers: Sequence[Tensor]) -> tuple[Tensor | None, int, int]:
        """Return the loss of each seed on this group's rows of a batch, how many they are, and how many are not rehearsed."""
        owner, rows = self._owner, self.batch_of(batch)
        count = rows[1].shape[owner.rows_axis]
        if not count or self._loss is None:
            return None, 0, 0
        loss = self._loss(owner.params, owner.frozen, *rows, *numbers)
        return loss, count, count if self._more.rehearsed is None else 0

    def batch_of(self, batch: int) -> list[Tensor]:
        """Return this group's rows of a batch, as the net takes them."""
        owner, net, rehearsed = self._owner, self._owner.job.net, self._more.rehearsed
        if rehearsed is None:
            place = owner.job.places(self._number, batch)
            index = self._drawn[:, place]
            picked = [owner.pick(rows, index) for rows in self._rows]
        else:
            place = slice(batch * rehearsed, (batch + 1) * rehearsed)
            index = self._drawn[:, batch]
            picked = [owner.pick_own(rows, index) for rows in self._rows]
        if self._more.augmented:
            picked[0] = owner.transformed(picked[0], "beside", self._number)
        picked[0] = net.prepare(picked[0])
        if self._augmented and index.numel():
            picked[:2] = owner.augmented(*picked[:2], self._changes[:, place].flatten(0, 1))
        return [net.laid_out(picked[0]), *picked[1:]]
