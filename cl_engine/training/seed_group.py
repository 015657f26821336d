"""Seeds of a fit that train together: their weights, their optimisers, and the step they take on a batch."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.tree import Tree, leaves_with_path, tree_map, unflatten
from cl_engine.errors import RunFailed
from cl_engine.nn.flops import Flops
from cl_engine.training import cuda_graphs
from cl_engine.training.averaging import AveragedWeights
from cl_engine.training.early_stopping import EarlyStopping
from cl_engine.training.fit_job import FitJob
from cl_engine.training.fit_observer import FitObserver, tell
from cl_engine.training.group_beside import GroupBeside
from cl_engine.training.group_upkeep import GroupUpkeep
from cl_engine.training.group_validation import GroupValidation
from cl_engine.training.loss_arguments import check_loss
from cl_engine.training.online_sums import OnlineSums
from cl_engine.training.optimizer_steps import clip_gradients, clipped, optimizers_for, step_of
from cl_engine.training.rates import Rates

NONE = nullcontext()


class SeedGroup(GroupValidation, ABC):
    """The seeds of a fit that take their steps together: one (`OneSeed`), or all of them (`VmappedSeeds`).

    >>> SeedGroup.__abstractmethods__ >= {"logits", "whole"}
    True

    Attributes:
        seeds: the seeds of this group.
        flops: operations of an epoch of one seed, counted on the first step; NaN before it.
    """

    def __init__(self, job: FitJob, seeds: list[int]) -> None:
        """Copy what is trained, and make the optimisers; ``seeds`` are those of the job that are in this group."""
        super().__init__(job, seeds)
        device = job.net.device
        pairs = {path: self._placed(self.part(leaf).detach().clone()) for path, leaf in leaves_with_path(job.params)}
        weights = {path: leaf for path, leaf in pairs.items() if not job.net.is_held(path[-1])}
        for leaf in weights.values():
            leaf.requires_grad_(True)
        self.weights = weights
        self.params = unflatten(pairs)
        self.frozen = None if job.frozen is None else tree_map(lambda leaf: self._placed(self.part(leaf)), job.frozen)
        self.untouched = _versions(self.frozen)
        self.optimizers, trains = optimizers_for(weights, job.train, job.overrides)
        self.rates = Rates(self.optimizers, trains, job.epochs, job.batches)
        self.averages = AveragedWeights(weights, job.train.ema) if job.train.ema else None
        self.steps = [step_of(optimizer) for optimizer in self.optimizers]
        if job.memory is not None:
            self._remember(job.memory)
        alone = job.train.patience is not None
        self.early_stopping = EarlyStopping(len(seeds), job.patience, job.plateau, self.optimizers, alone)
        self.losses = [math.nan] * len(seeds)
        self.flops = math.nan
        half = job.train.precision == "bfloat16"
        self.precision = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
        self.tensors = len(self.rows) + sum(len(more.rows) for more in job.beside if more.loss is None)  # of a batch
        self.loss = self.of_each(job.loss, self.tensors)
        self.online = None if job.online is None else OnlineSums(job, len(seeds), self.rows_axis)
        self.upkeep = None if job.upkeep is None or not job.upkeep.active else GroupUpkeep(self, job.upkeep)
        self.heard: dict[bool, Callable[..., Any]] = {}  # see `_listening`
        groups = [GroupBeside(self, more, number) for number, more in enumerate(job.beside, start=1)]
        self.handed = [group for group, more in zip(groups, job.beside, strict=True) if more.loss is None]
        self.beside = [group for group in groups if group not in self.handed]
        self.total = torch.zeros(len(seeds), device=device)  # of the losses of an epoch
        self.replay = self._replay()

    @abstractmethod
    def of_each(self, loss: Callable[..., Any], tensors: int) -> Callable[..., Any]:
        """Return the loss of each seed, given that of one, for batches of as many tensors."""

    @abstractmethod
    def of_one(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """Return what gives, of ``params`` and ``frozen`` of the group, what a function gives of those of one seed."""

    @abstractmethod
    def _placed(self, leaf: Tensor) -> Tensor:
        """Return a weight in the layout in memory that steps are fastest with."""

    def check(self) -> None:
        """Raise a `RunFailed` if a frozen tensor has been changed."""
        if _versions(self.frozen) != self.untouched:
            raise RunFailed(
                f"the loss changed frozen tensors at step {self.job.step}: call net.one(…, training=False) on them"
            )

    def start_epoch(self, epoch: int, batches: int) -> None:
        """Draw all that an epoch is random by."""
        self.epoch, self.batches, self.at = epoch, batches, 0
        self.draw(epoch, batches)
        told = [self.job.loss_inputs(epoch, batch, batches) for batch in range(batches)]
        # one copy an epoch: a copy a step would wait for the GPU
        self.numbers = [torch.tensor(column).to(self.job.net.device) for column in zip(*told, strict=True)]
        if self.upkeep is not None:
            self.upkeep.start_epoch(epoch)
        for more in (*self.beside, *self.handed):
            more.start_epoch(epoch, batches)
        if self.job.each_epoch is not None:
            with torch.no_grad():
                changed = self.of_one(partial(self.job.each_epoch, epoch))(self.params, self.frozen)
                for path, leaf in leaves_with_path(changed):
                    self.weights[path].copy_(leaf)
        self.total.zero_()

    def advance(self, until: int, seconds: float) -> int:
        """Take the steps of this epoch up to batch ``until``, or the first that ends after ``seconds``; return how far it is."""
        ends = time.perf_counter() + seconds
        while self.at < until:
            if not self.early_stopping.enough:
                self.step(self.epoch, self.at)
            self.at += 1
            if time.perf_counter() > ends:
                break
        return self.at

    def step(self, epoch: int, batch: int) -> None:
        """Take one step of every optimiser on one batch."""
        given, noise = self.given(batch), self._noise(epoch, batch)
        if self.job.arrival and not self.job.train.keep_optimizer and self.job.begins_arrival(batch):
            self.begin_anew()
        given |= {f"number {k}": column[batch] for k, column in enumerate(self.numbers)}
        self.rates.begin_step()
        if self.replay is None:
            self._step(given, batch, noise)
        else:
            with noise:
                self.replay(given)
        self.rates.end_step()
        if self.online is not None:
            self.online.mark(batch + 1, self.batches)

    def _step(self, given: Mapping[str, Tensor], batch: int = 0, noise: AbstractContextManager[Any] = NONE) -> None:
        """Take a step on what was drawn for a batch, and numbers told; of a replayed step that is all that changes."""
        job, rows = self.job, self.batch_of(given)
        numbers = [tensor for name, tensor in given.items() if name.startswith("number")]
        counted = Flops() if math.isnan(self.flops) else nullcontext()
        shown = self._shown_to_observer(rows)
        if shown is not None:
            tell(job.observer, job.net.device, FitObserver.batch_begins, *shown)
        with counted, noise, job.net.training(), self.precision:
            try:
                losses, taken = self._losses(rows, given["index"].shape[1], numbers, batch)
            except TypeError:
                check_loss(job.loss, self.tensors, len(numbers))
                raise
        if shown is not None:
            tell(job.observer, job.net.device, FitObserver.batch_answered, self._answer(shown[0]), losses.detach())
        kept = None if self.upkeep is None else self.upkeep.penalty()
        with counted:
            (losses if kept is None else losses + kept).sum().backward()
        if isinstance(counted, Flops):
            self.flops = counted.total / len(self.seeds) * job.counted / taken
        if shown is not None:
            tell(job.observer, job.net.device, FitObserver.gradients_known)
        if job.clip is not None:
            clip_gradients(self.weights.values(), job.clip, each_row=self.rows_axis == 1)
        clipped(self.weights.values(), job.train, each_row=self.rows_axis == 1)
        if self.averages is not None:
            self.averages.reach()
        if self.upkeep is not None:
            self.upkeep.before_step()
        with torch.no_grad():
            for step in self.steps:
                step()
        if self.upkeep is not None:
            self.upkeep.after_step()
        if job.project is not None:
            with torch.no_grad():
                job.project(self.params)
        for weight in self.weights.values():
            weight.grad = None
        if self.averages is not None:
            self.averages.update()
        self.total += losses.detach() * taken
        if shown is not None:
            tell(job.observer, job.net.device, FitObserver.batch_ends)

    def _losses(self, rows: list[Tensor], taken: int, numbers: list[Tensor], batch: int) -> tuple[Tensor, int]:
        """Return the loss of each seed on a batch, with what is learned beside its rows; and how many are not rehearsed."""
        rows = [*rows, *(part for more in self.handed for part in more.batch_of(batch))]
        if not self.beside:
            return self._own_loss(rows, numbers), taken
        own = rows[1].shape[self.rows_axis]
        parts = [(self._own_loss(rows, numbers) if own else None, own, taken)]
        parts += [more.losses(batch, numbers) for more in self.beside]
        every = sum(count for _, count, _ in parts)
        loss = torch.stack([loss * (count / every) for loss, count, _ in parts if loss is not None]).sum(dim=0)
        return loss, sum(learned for _, _, learned in parts)

    def _own_loss(self, rows: list[Tensor], numbers: list[Tensor]) -> Tensor:
        """Return the loss of each seed on the fit's own rows of a batch, and let those hear it who want to."""
        units = self.upkeep is not None and self.upkeep.hears()
        if self.online is None and not units:
            found: Tensor = self.loss(self.params, self.frozen, *rows, *numbers)
            return found
        answered: Any = self._listening(units)(self.params, self.frozen, *rows, *numbers)
        if self.online is not None:
            answered, answers = answered
            if self.job.begins_arrival(self.at):
                self.online.take(answers, rows[0].shape[self.rows_axis])
        if self.upkeep is not None and units:
            answered, read = answered
            self.upkeep.hear(read)
        loss: Tensor = answered
        return loss

    def _listening(self, units: bool) -> Callable[..., Any]:
        """Return the loss of each seed with what is heard beside it: hidden units, if asked for, and the target's answers."""
        if units not in self.heard:
            loss: Callable[..., Any] = self.upkeep.hearing(self.job.loss) if self.upkeep and units else self.job.loss
            loss = loss if self.online is None else self.online.hearing(loss)
            self.heard[units] = self.of_each(loss, self.tensors)
        return self.heard[units]

    def online_sums(self) -> list[tuple[int, Any]]:
        """Return how the rows of the epoch were answered before they were learned: batches learned, and sums ``[S, K]``."""
        return [] if self.online is None else self.online.taken()

    def end_epoch(self) -> list[float]:
        """Return the mean loss of each seed, that of its last epoch where it has had enough."""
        self.rates.end_epoch()
        if self.job.train.patience is None or not self.early_stopping.enough:
            self.losses = [float(value) / self.job.counted for value in self.total.tolist()]
        return self.losses

    def _replay(self) -> cuda_graphs.Replay | None:
        """Return what records steps and replays them, where there is nothing in a step but what can be recorded."""
        job, device = self.job, self.job.net.device
        steps = job.epochs * job.batches
        if not cuda_graphs.worthwhile(device, steps):
            return None
        reasons = {  # what a replay would not call, or find elsewhere
            "something follows it batch by batch": job.observer is not None,
            "upkeep counts its steps outside of the GPU": self.upkeep is not None,
            "an arrival begins anew": job.arrival > 0 and (job.train.epochs > 1 or not job.train.keep_optimizer),
            "it learns rows of several targets": bool(job.beside),
            "its optimiser keeps numbers outside of the GPU": not cuda_graphs.lasting(self.optimizers),
            "its schedule moves the momentum at every step": self.rates.moves_more,
            "transforms are drawn outside of the GPU": self.transforms is not None,
        }
        why = next((reason for reason, holds in reasons.items() if holds), "")
        if why:
            cuda_graphs.say(f"is not recorded, because {why}")
        if why:
            return None
        self.rates.on(device)
        return cuda_graphs.Replay(self._step, self._touched, self._rates, job.net, job.loss)

    def _noise(self, epoch: int, batch: int) -> AbstractContextManager[Any]:
        """Return what lets a net that draws draw what belongs to this step."""
        if not self.job.net.stochastic:
            return nullcontext()
        return rng.ambient(self.seeds[0], "noise", *self.rng_key, epoch, batch, device=self.job.net.device)

    def _shown_to_observer(self, rows: list[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Return the inputs and labels of a batch that an observer is shown, if there is one."""
        return None

    def _answer(self, x: Tensor) -> Tensor:
        """Return logits ``[N, C]`` in evaluation mode, as an observer is shown them."""
        with torch.no_grad(), self.precision, self.job.net.evaluating():
            return self.job.logits(self.params, self.frozen, x)  # type: ignore[misc]


def _versions(tree: Tree | None) -> list[int]:
    return [] if tree is None else [leaf._version for _, leaf in leaves_with_path(tree)]
