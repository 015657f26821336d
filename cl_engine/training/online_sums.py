"""Online scores: every batch is scored by the forward pass that trains on it, before the step it leads to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.gpu import is_gpu
from cl_engine.nn.target import Target, heard
from cl_engine.targets.classes import Classes
from cl_engine.training.fit_job import FitJob

Answers = list[tuple[Tensor, Tensor]]
# numbers answered that are counted together: counting a small batch takes as long as a third of its step
WAITING = 1 << 16


class OnlineSums:
    """The sums that the measure of a task is a function of, over the rows a fit has learned, as they were answered first.

    What is answered is what the loss asks the task's target about (`Target.loss`): nothing is computed twice, and nothing
    waits for a GPU before the epoch is over. Rehearsed rows are not counted.

    >>> OnlineSums.__name__  # made by `SeedGroup`
    'OnlineSums'
    """

    def __init__(self, job: FitJob, seeds: int, rows_axis: int) -> None:
        self._target: Target = job.target or Classes.of(classes=job.net.outputs)
        self._rehearsed, self._axis, self._every = job.rehearsed, rows_axis, job.online or 0
        self._asked: list[Target] = []
        self.sums = torch.zeros(seeds, len(self._target.sum_names), dtype=torch.float64, device=job.net.device)
        self._marks: list[tuple[int, Tensor]] = []
        self._waiting: Answers = []
        self._together = 0 if is_gpu(job.net.device) else WAITING  # a recorded step counts as it is replayed
        self._room = self._together

    def hearing(self, loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Answers]]:
        """Return a loss that returns beside its value what the target was asked about: outputs and labels."""

        def of_one(*given: Any) -> tuple[Tensor, Answers]:
            with heard() as asked:
                value = loss(*given)
            self._asked = [target for target, _, _ in asked]  # of one seed, or of all of them at once
            return value, [(outputs.detach(), y) for _, outputs, y in asked]

        return of_one

    @torch.no_grad()
    def take(self, answers: Answers, rows: int) -> None:
        """Take in the answers to a batch of as many rows, those rehearsed among them."""
        for target, of_call in zip(self._asked, answers, strict=True):
            if target.sum_names != self._target.sum_names:
                continue
            outputs, y = of_call if self._axis else (part.unsqueeze(0) for part in of_call)
            own = rows - self._rehearsed if y.shape[1] == rows else y.shape[1]
            if self._waiting and self._waiting[0][0].shape[2:] != outputs.shape[2:]:
                self._count()
            self._waiting.append((outputs[:, :own], y[:, :own]))
            self._room -= outputs.numel()
        if self._room <= 0:
            self._count()

    @torch.no_grad()
    def _count(self) -> None:
        """Count the answers that wait to be counted."""
        if self._waiting:
            outputs, y = (torch.cat(parts, dim=1) for parts in zip(*self._waiting, strict=True))
            self.sums += self._target.sums_of_each(outputs, y)
        self._waiting, self._room = [], self._together

    def mark(self, batch: int, batches: int) -> None:
        """Note after a batch what has come together since the note before, where it is to be told."""
        if batch == batches or (self._every and batch % self._every == 0):
            self._count()
            self._marks.append((batch, self.sums.clone()))
            self.sums.zero_()

    def taken(self) -> list[tuple[int, np.ndarray]]:
        """Return the notes of an epoch, batches learned and sums ``[S, K]``, and keep them no longer."""
        marks, self._marks = self._marks, []
        return [(batch, sums.cpu().numpy()) for batch, sums in marks]
