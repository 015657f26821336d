"""The description of a fit: rows, loss, options, randomness, and when it is tested on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypedDict

import numpy as np
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.data.rows_of_seeds import RowsOfSeeds
from cl_engine.events import Event
from cl_engine.nn.net import Net
from cl_engine.nn.target import Target
from cl_engine.training.early_stopping import Plateau
from cl_engine.training.fit_observer import FitObserver
from cl_engine.training.fit_progress import FitRecord
from cl_engine.training.optimizer_memory import OptimizerMemory
from cl_engine.training.optimizers import Train
from cl_engine.training.upkeep import Upkeep
from cl_engine.training.weight_memory import WeightMemory

Rows = tuple[Tensor, ...]
Loss = Callable[..., Tensor]
Judge = Literal["accuracy", "loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProbe(Event):
    """Chance to test the learner in the middle of learning the task at hand: `predict` gives ``[S, N, C]``.

    The engine answers it with a `CurvePoint`; it is not logged itself. ``params`` returns a copy of what is being fitted.
    ``record`` is where the answer is to be noted, if the fit keeps one.

    >>> TrainingProbe(step=0, batch=10, epoch=0, predict=lambda x: x).batch
    10
    """

    batch: int
    epoch: int
    predict: Callable[[Tensor], Tensor] = field(compare=False)
    params: Callable[[], Tree] = field(default=dict, compare=False)
    record: FitRecord | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Curve:
    """Times of tests while learning: after each of the first ``batches`` and every ``epochs`` epochs, and on how many tasks.

    >>> Curve(batches=2, epochs=1).wants(batch=2, per_epoch=10)
    True
    """

    batches: int = 0
    epochs: int = 0
    tasks: int = 0

    def wants(self, batch: int, per_epoch: int) -> bool:
        """Return whether to be tested after this many batches (0: before the first)."""
        if batch == 0:
            return bool(self.batches or self.epochs)
        epoch, within = divmod(batch, per_epoch)
        return batch <= self.batches or (self.epochs > 0 and within == 0 and epoch % self.epochs == 0)


@dataclass(frozen=True)
class Diagnostics:
    """What is looked at in a net before it is trained: on how many rows, and below which share of the mean a unit is dormant.

    >>> Diagnostics().rows
    2000
    """

    rows: int = 2000
    dormant: float = 0.1


@dataclass(frozen=True)
class RowsBeside:
    """Rows that a fit learns beside its own, with a loss of their own: of tasks that ask for something else, say.

    Every batch has of them the share that it has of the fit's own rows; or, where they are rehearsed, as many as are said,
    drawn with replacement. The loss of a batch is that of all its rows, each group's weighted by its number of them. Rows
    without a loss of their own, which are rehearsed, are handed to that of the fit, after its own rows.

    >>> import torch
    >>> RowsBeside((torch.zeros(3, 4), torch.zeros(3)), lambda params, frozen, x, y: x.sum()).rehearsed is None
    True

    Attributes:
        rows: tensors ``[N, …]``, the same for all seeds; ``[S, M, …]`` where they are rehearsed.
        loss: ``loss(params, frozen, *batch) -> scalar`` for one seed; None: the fit's own sees to them.
        rehearsed: how many are in a batch; None: all rows are learned once an epoch.
        augmented: whether images among them are moved and mirrored as those of the fit are.
    """

    rows: Rows
    loss: Loss | None = None
    rehearsed: int | None = None
    augmented: bool = True


@dataclass(frozen=True)
class FitJob:
    """One fit: the weights to train, the rows to train them on, the options, and what randomness is derived from.

    >>> import torch
    >>> net = Net(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), (1, 2, 2))
    >>> rows = torch.zeros(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64)
    >>> loss = lambda params, frozen, x, y: torch.nn.functional.cross_entropy(net.one(params, x), y)
    >>> job = FitJob(net, net.init([0]), loss, rows, Train(epochs=2), [0], step=0, task_id=0)
    >>> from cl_engine.training.fit import fit
    >>> [type(event).__name__ for event in fit(job)]
    ['EpochEnded', 'EpochEnded']

    Attributes:
        params: tree of tensors ``[S, …]`` to be trained; buffers of the net among them are carried along.
        loss: ``loss(params, frozen, *batch) -> scalar`` for one seed.
        rows: tensors ``[N, …]``, the same for all seeds; a batch holds the same rows of each.
        frozen: tree of tensors ``[S, …]`` handed to the loss and never changed; or None.
        rehearsal: tensors ``[S, M, …]``, drawn from with replacement: ``rehearsal_batch`` rows join every batch
            (None: as many as are in a batch).
        beside: rows of tasks that ask for something else, which are learned beside these, or handed to ``loss`` after them.
        overrides: other training options for parts of ``params``, by top-level key.
        logits: ``logits(params, frozen, x) -> [N, C]`` for one seed, to be tested with; None: no curve.
        target: what the validation rows ask for; None: classes.
        online: whether rows are scored as they were answered before they were learned, and after how many batches that is
            told, beside the end of an epoch (0: then alone); None: they are not.
        arrival: rows that arrive at a time: in their order, each time a batch that is learned ``train.epochs`` times before the
            next comes; 0: epochs over all rows, in an order that is drawn.
        drawn: which of the rehearsed rows join each batch ``[S, batches, K]``; None: it is drawn.
        index: number of the fit within its experience.
        rng_key: number that, with the seed and the group, all randomness is derived from; None: the step.
        shuffle_group: fits of the same group see the rows in the same order; None: the index.
        loss_inputs: given epoch, batch within it and batches of it, returns numbers handed to every loss after the rows.
        validation: inputs and labels ``(x [M, …], y [M])`` that decide, after every epoch, which weights are kept: those of
            the epoch of the best score, the first if several are equal; None: those after the last epoch.
        judge: what decides on the validation rows: the best score (accuracy of classes), or the least loss, with the loss
            inputs of the last batch of an epoch.
        keep_best: whether the weights that were best on the validation rows are returned; False: those after the last epoch.
        patience: epochs without a better one after which a seed stops; None: it never does.
        plateau: how the learning rate follows the validation rows, for each seed by itself; None: it does not.
        clip: greatest norm of a seed's gradients of all that is trained, together; None: any.
        candidates: number of fits that this one stands for; its seeds are those of each, one after the other.
        project: called on ``params`` after every step, to bring them back in place to where they are allowed, or to note what
            the step was in leaves that no gradient reaches; gradients of the step are still there.
        each_epoch: ``each_epoch(epoch, params, frozen)`` of one seed, called without gradients before every epoch, returns
            those leaves of ``params`` that then change: numbers that the loss reads and no gradient reaches.
        resample: given a number to draw from, returns the inputs ``[N, …]`` as random transformations show them this time,
            called before every epoch; None: they are always the same.
        of_seeds: inputs and labels where each seed has its own; the first two of ``rows`` are then those of the first seed.
        upkeep: what keeps the net able to learn; None: nothing does.
        diagnostics: what the net is looked at for before it is trained; None: it is not.
        upkeep_memory: what upkeep remembers of the fit before, and of this one when it is over; None: it begins with nothing.
        memory: what optimisers remember of the fit before, and of this one when it is over; None: they begin with nothing.
        record: what the fit has come to so far, to resume from, and where it notes its progress; None: none is kept.
        observer: what follows the fit batch by batch; None: nothing does.
    """

    net: Net
    params: Tree
    loss: Loss
    rows: Rows
    train: Train
    seeds: Sequence[int]
    step: int
    task_id: int
    frozen: Tree | None = None
    rehearsal: Rows | None = None
    rehearsal_batch: int | None = None
    beside: Sequence[RowsBeside] = ()
    overrides: Mapping[str, Train] = field(default_factory=dict)
    logits: Callable[..., Tensor] | None = None
    target: Target | None = None
    curve: Curve = Curve()
    online: int | None = None
    arrival: int = 0
    drawn: Tensor | None = None
    index: int = 0
    rng_key: int | None = None
    shuffle_group: int | None = None
    loss_inputs: Callable[[int, int, int], Sequence[float]] = lambda epoch, batch, batches: ()
    project: Callable[[Tree], None] | None = None
    each_epoch: Callable[[int, Tree, Tree | None], Tree] | None = None
    validation: Rows | None = None
    judge: Judge = "accuracy"
    keep_best: bool = True
    patience: int | None = None
    plateau: Plateau | None = None
    clip: float | None = None
    side_by_side: bool | None = None
    candidates: int = 1
    resample: Callable[[int], Tensor] | None = None
    of_seeds: RowsOfSeeds | None = None
    upkeep: Upkeep | None = None
    diagnostics: Diagnostics | None = None
    upkeep_memory: WeightMemory | None = None
    memory: OptimizerMemory | None = None
    record: FitRecord | None = None
    observer: FitObserver | None = None

    @property
    def rehearsed(self) -> int:
        """Number of rehearsed rows that join every batch."""
        if self.rehearsal is None:
            return 0
        return self.train.batch if self.rehearsal_batch is None else self.rehearsal_batch

    @property
    def learned(self) -> int:
        """Number of rows that an epoch goes over, those rehearsed not counted."""
        return len(self.rows[0]) + sum(len(more.rows[0]) for more in self.beside if more.rehearsed is None)

    @property
    def epochs(self) -> int:
        """Number of epochs; arrivals, which are not repeated, are one."""
        return 1 if self.arrival else self.train.epochs

    @property
    def batches(self) -> int:
        """Number of batches of an epoch."""
        if self.arrival:
            return math.ceil(len(self.rows[0]) / self.arrival) * self.train.epochs
        return self.train.batches(self.learned)

    @property
    def counted(self) -> int:
        """Number of rows in the batches of an epoch, those rehearsed not counted."""
        return len(self.rows[0]) * self.train.epochs if self.arrival else self.train.learned(self.learned)

    def begins_arrival(self, batch: int) -> bool:
        """Return whether a batch is the first with these rows of an epoch."""
        return not self.arrival or batch % self.train.epochs == 0

    def places(self, group: int, batch: int) -> slice:
        """Return where, in an epoch's order of a group's rows, those of a batch are; 0: the fit's own, k: the k-th beside."""
        if self.arrival:
            begin = batch // self.train.epochs * self.arrival
            return slice(begin, min(begin + self.arrival, len(self.rows[0])))
        if not self.beside:
            return self.train.places(batch, len(self.rows[0]))
        ends = self._ends[group]
        return slice(ends[batch - 1] if batch else 0, ends[batch])

    @cached_property
    def _ends(self) -> list[list[int]]:
        beside = (len(more.rows[0]) if more.rehearsed is None else 0 for more in self.beside)
        return batch_ends([len(self.rows[0]), *beside], self.train)


def batch_ends(sizes: Sequence[int], train: Train) -> list[list[int]]:
    """Return how many rows of each group an epoch has seen after each batch.

    Batches are those of an epoch of all rows together; every group is spread over them as evenly as whole rows can be.

    >>> batch_ends([4, 2], Train(batch=3))
    [[2, 4], [1, 2]]
    """
    every = sum(sizes)
    at = np.concatenate([(np.arange(size) + 0.5) / max(size, 1) for size in sizes])
    group = np.repeat(np.arange(len(sizes)), sizes)[np.argsort(at, kind="stable")]
    ends = [train.places(batch, every).stop for batch in range(train.batches(every))]
    return [np.cumsum(group == own)[np.array(ends) - 1].tolist() for own in range(len(sizes))]


class FitOptions(TypedDict, total=False):
    """Fields of a `FitJob` that a strategy may set when it calls `Strategy.fit`.

    >>> options: FitOptions = {"patience": 3, "shuffle_group": 0}
    """

    rows: Rows
    frozen: Tree | None
    rehearsal: Rows | None
    rehearsal_batch: int | None
    beside: Sequence[RowsBeside]
    overrides: Mapping[str, Train]
    logits: Callable[..., Tensor]
    train: Train
    loss_inputs: Callable[[int, int, int], Sequence[float]]
    project: Callable[[Tree], None]
    each_epoch: Callable[[int, Tree, Tree | None], Tree] | None
    validation: Rows | None
    judge: Judge
    keep_best: bool
    patience: int | None
    plateau: Plateau | None
    clip: float | None
    seeds: Sequence[int]
    curve: Curve
    arrival: int
    drawn: Tensor | None
    shuffle_group: int
    side_by_side: bool
    candidates: int
