"""The rows of a fit, as a seed group sees them: in which order, with which others, and how images are shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.training.fit_job import FitJob
from cl_engine.training.transforms import transforms_of


class GroupRows(ABC):
    """The part of a seed group that draws rows: their order in an epoch, those rehearsed, and random transformations.

    >>> sorted(GroupRows.__abstractmethods__)
    ['_own_rows', 'of_seeds', 'part', 'pick', 'pick_own']
    """

    rows_axis: ClassVar[int]  # of a batch
    epoch: int  # at hand, and the batch within it
    at: int

    def __init__(self, job: FitJob, seeds: list[int]) -> None:
        self.job, self.seeds = job, seeds
        self.rng_key = (
            job.step if job.rng_key is None else job.rng_key,
            job.index if job.shuffle_group is None else job.shuffle_group,
        )
        device = job.net.device
        # bytes stay bytes: they are made ready batch by batch, in the cache
        self.rows = tuple(rows.to(device) for rows in job.rows)
        self.rehearsal = None if job.rehearsal is None else tuple(self.part(rows).to(device) for rows in job.rehearsal)
        self.augmentation = job.train.augmentation
        self.pad_value = job.net.pad_value(job.rows[0].dtype) if self.augmentation else None
        # of a fit of images: a readout's rows, say, are none
        self.transforms = transforms_of(job.train) if job.rows[0].shape[-3:] == tuple(job.net.input_shape) else None
        self.shown: Tensor | None = None  # rows of each seed, where every epoch shows them otherwise

    @abstractmethod
    def part(self, leaf: Tensor) -> Tensor:
        """Return this group's part of a tensor ``[S, …]`` of the job."""

    @abstractmethod
    def pick(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return the rows ``[S, B, …]`` or ``[B, …]`` with these indices ``[S, B]`` of rows that all seeds share."""

    @abstractmethod
    def pick_own(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return the same of rows that each seed has its own of."""

    @abstractmethod
    def of_seeds(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels with these indices ``[S, B]`` where the job has rows of each seed."""

    @abstractmethod
    def _own_rows(self, of_each: list[Tensor]) -> Tensor:
        """Return rows of each seed as `pick_own` takes them."""

    def draw(self, epoch: int, batches: int) -> None:
        """Draw the order of the rows, and the rehearsed rows of every batch."""
        device, rows, job = self.job.net.device, len(self.rows[0]), self.job
        if job.arrival:
            self.order = torch.arange(rows, device=device).expand(len(self.seeds), -1)
        else:
            orders = [torch.randperm(rows, generator=self.generator(seed, "order", epoch)) for seed in self.seeds]
            self.order = torch.stack(orders).to(device)
        if job.drawn is not None:
            own = self.part(job.drawn).to(device)
            self.drawn = own if self.rows_axis else own.unsqueeze(0)
        elif self.rehearsal is not None:
            size, held = (batches, job.rehearsed), self.rehearsal[0].shape[self.rows_axis]
            drawn = [
                torch.randint(held, size, generator=self.generator(seed, "rehearsal", epoch)) for seed in self.seeds
            ]
            self.drawn = torch.stack(drawn).to(device)
        if job.resample is not None:
            shown = [job.resample(rng.derive(seed, "again", *self.rng_key, epoch)).to(device) for seed in self.seeds]
            own = self._own_rows(shown)
            # a recorded step finds them where they were
            self.shown = own if self.shown is None else self.shown.copy_(own)
        if self.augmentation:
            every = rows + batches * job.rehearsed  # those rehearsed come after the rows of the experience
            changes = [
                self.augmentation.draw(every, self.generator(seed, "augmentation", epoch)) for seed in self.seeds
            ]
            self.changes = torch.stack(changes).to(device)

    def given(self, batch: int) -> dict[str, Tensor]:
        """Return what was drawn for a batch: indices ``[S, B]`` of rows and of those rehearsed, and changes of images."""
        rehearsed, rows, places = self.job.rehearsed, len(self.rows[0]), self.job.places(0, batch)
        found = {"index": self.order[:, places]}
        if self.rehearsal is not None:
            found["rehearsed"] = self.drawn[:, batch]
        if self.augmentation:
            again = self.changes[:, rows + batch * rehearsed : rows + (batch + 1) * rehearsed]
            found["changes"] = torch.cat([self.changes[:, places], again], dim=1)
        return found

    def batch_of(self, given: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the rows that were drawn for a batch, those of the fit and those rehearsed, as the net takes them."""
        job, index = self.job, given["index"]
        own: tuple[Tensor, ...]
        if job.of_seeds is not None:
            own = self.of_seeds(index)
        else:
            own = (self.pick(self.rows[0], index) if self.shown is None else self.pick_own(self.shown, index),)
        x = self.transformed(own[0])
        rows = [job.net.prepare(x), *own[1:], *(self.pick(rows, index) for rows in self.rows[len(own) :])]
        if self.rehearsal is not None:
            x, *others = (self.pick_own(rows, given["rehearsed"]) for rows in self.rehearsal)
            again = (job.net.prepare(self.transformed(x, "rehearsed")), *others)
            rows = [torch.cat(pair, dim=self.rows_axis) for pair in zip(rows, again, strict=True)]
        if self.augmentation and rows[0].numel():
            rows[:2] = self.augmented(rows[0], rows[1], given["changes"].flatten(0, 1))
        rows[0] = job.net.laid_out(rows[0])
        return rows

    def generator(self, seed: int, purpose: str, epoch: int) -> torch.Generator:
        """Return what a seed draws with in an epoch, for one purpose."""
        return rng.tensors(seed, purpose, *self.rng_key, epoch)

    def transformed(self, x: Tensor, *purpose: int | str) -> Tensor:
        """Return the images of the batch at hand, ``[S, B, …]`` or ``[B, …]``, as ``train.transforms`` show them now."""
        if self.transforms is None or not x.numel():
            return x
        device = self.job.net.device
        shown = []
        for seed, own in zip(self.seeds, x if self.rows_axis else [x], strict=True):
            with rng.ambient(seed, "transforms", *purpose, *self.rng_key, self.epoch, self.at, device=device):
                shown.append(self.transforms(own))
        return torch.stack(shown) if self.rows_axis else shown[0]

    def augmented(self, x: Tensor, y: Tensor, drawn: Tensor) -> list[Tensor]:
        """Return inputs and labels of rows as drawn ``[N, 5]``; labels follow where the target's can."""
        assert self.pad_value is not None
        target = self.job.target
        if target is not None:
            y = self.augmentation.applied_to_labels(target, y, drawn, x.shape[-2:])
        return [self.augmentation.applied_to_rows(x, drawn, self.pad_value), y]
