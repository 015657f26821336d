"""The training loop, the only one: a loss written for one seed, run for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from cl_engine import rng
from cl_engine.best import Best
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import EpochEnded, Event, Progress
from cl_engine.flops import Flops
from cl_engine.job import Job, Midway
from cl_engine.optimizers import optimizers_for
from cl_engine.tree import Tree, built, leaves, mapped

BREATH = 0.05  # seconds between two looks at whether anybody still reads


def fit(job: Job) -> Generator[Event, None, Tree]:
    """Train and return the new ``params`` (the given ones are not changed), yielding progress on the way.

    Several seeds run either in turn, batch by batch, or as one `torch.vmap`; `Net.side_by_side` says which is faster.
    A seed's batches are the same either way, and its result within rounding.

    Raises:
        UsageError: if there are no rows to learn from.
        RunFailed: if a loss is not finite at the end of an epoch, or the loss changed a frozen tensor.
    """
    if not len(job.rows[0]):
        raise UsageError(
            f"there are no rows to learn task {job.task_id} from, at step {job.step}: let the stream have more rows a class, "
            "or set fewer aside for validation"
        )
    seeds = len(job.seeds)
    together = seeds > 1 and (job.net.side_by_side(seeds) if job.side_by_side is None else job.side_by_side)
    groups = [list(range(seeds))] if together else [[s] for s in range(seeds)]
    learners = [_Learner(job, group, together) for group in groups]
    batches = math.ceil(len(job.rows[0]) / job.train.batch)
    breath = time.perf_counter()

    def midway(batch: int) -> Iterator[Event]:
        if job.logits is not None and job.curve.wants(batch, batches):
            yield Midway(
                step=job.step,
                batch=batch,
                epoch=batch // batches,
                predict=lambda x: _logits(learners, x),
                params=lambda: _stacked([mapped(Tensor.clone, learner.whole()) for learner in learners]),
            )

    yield from midway(0)
    for epoch in range(job.train.epochs):
        started = time.perf_counter()
        for learner in learners:
            learner.start_epoch(epoch, batches)
        for batch in range(batches):
            for learner in learners:
                if not learner.best.enough:
                    learner.step(epoch, batch)
            done = epoch * batches + batch + 1
            if time.perf_counter() - breath > BREATH:
                yield Progress(step=job.step, done=done / (batches * job.train.epochs))
                breath = time.perf_counter()
            if batch + 1 < batches:
                yield from midway(done)
        loss = tuple(value for learner in learners for value in learner.end_epoch())
        yield EpochEnded(
            step=job.step,
            task_id=job.task_id,
            fit=job.index,
            epoch=epoch,
            epochs=job.train.epochs,
            loss=loss,
            flops=learners[0].flops,
            seconds=time.perf_counter() - started,
        )
        for seed, value in zip(job.seeds, loss, strict=True):
            if not math.isfinite(value):
                raise RunFailed(
                    f"the loss of seed {seed} is {value} at step {job.step} (task {job.task_id}), epoch {epoch}: "
                    f"lower train.lr, now {job.train.lr}"
                )
        yield from midway((epoch + 1) * batches)
        for learner in learners:
            learner.judge()
        if all(learner.best.enough for learner in learners):
            break
    if any(_versions(learner.frozen) != learner.frozen_before for learner in learners):
        raise RunFailed(f"the loss changed frozen tensors at step {job.step}: call net.one(…, training=False) on them")
    results = [learner.result() for learner in learners]
    return results[0] if len(results) == 1 else _stacked(results)


class _Learner:
    """The seeds that run as one: either a single seed, or all of them under vmap."""

    def __init__(self, job: Job, members: list[int], together: bool) -> None:
        self.job, self.together = job, together
        self.draw = (job.step if job.draw is None else job.draw, job.index if job.lot is None else job.lot)
        self.seeds = [job.seeds[member] for member in members]
        device = job.net.device
        own = (lambda leaf: leaf) if together else (lambda leaf: leaf[min(members[0], len(leaf) - 1)])
        place = (lambda leaf: leaf) if together else job.net.laid_out
        x, *others = (rows.to(device) for rows in job.rows)
        self.rows = (job.net.prepare(x), *others)
        pairs = {path: place(own(leaf).detach().clone()) for path, leaf in leaves(job.params)}
        weights = {path: leaf for path, leaf in pairs.items() if not job.net.is_buffer(path[-1])}
        for leaf in weights.values():
            leaf.requires_grad_(True)
        self.params = built(pairs)
        self.frozen = None if job.frozen is None else mapped(lambda leaf: place(own(leaf)), job.frozen)
        self.frozen_before = _versions(self.frozen)
        self.rehearsal = None if job.rehearsal is None else tuple(own(rows).to(device) for rows in job.rehearsal)
        self.optimizers, self.schedules = optimizers_for(weights, job.train, job.overrides)
        self.best = Best(len(members), job.patience)
        self.flops = math.nan  # of a pass of one seed
        self.augmentation = job.train.augmentation
        self.black = job.net.black(x.dtype) if self.augmentation else None
        self.loss = job.loss
        self.shared: Any = None
        if together:
            if self.frozen is not None:
                self.shared = mapped(lambda leaf: 0 if len(leaf) > 1 else None, self.frozen)
                self.frozen = mapped(lambda leaf: leaf if len(leaf) > 1 else leaf[0], self.frozen)
            told = [None] * len(job.told(0, 0, 1))
            self.loss = torch.vmap(job.loss, in_dims=(0, self.shared, *[0] * len(self.rows), *told))

    def start_epoch(self, epoch: int, batches: int) -> None:
        """Draw the order of the rows, and the rehearsed rows of every batch."""
        self.batches = batches
        device, rows = self.job.net.device, len(self.rows[0])
        orders = [torch.randperm(rows, generator=self._draws(seed, "order", epoch)) for seed in self.seeds]
        self.order = torch.stack(orders).to(device)
        if self.rehearsal is not None:
            size, held = (batches, self.job.rehearsal_batch), self.rehearsal[0].shape[1 if self.together else 0]
            drawn = [torch.randint(held, size, generator=self._draws(seed, "rehearsal", epoch)) for seed in self.seeds]
            self.drawn = torch.stack(drawn).to(device)
        if self.job.again is not None:
            shown = [self.job.again(rng.derive(seed, "again", *self.draw, epoch)).to(device) for seed in self.seeds]
            self.shown = self.job.net.prepare(torch.stack(shown) if self.together else shown[0])
        if self.augmentation:
            every = rows + batches * self.job.rehearsal_batch  # those rehearsed come after the rows of the experience
            changes = [self.augmentation.draw(every, self._draws(seed, "augmentation", epoch)) for seed in self.seeds]
            self.changes = torch.stack(changes).to(device)
        self.total = torch.zeros(len(self.seeds), device=device)

    def step(self, epoch: int, batch: int) -> None:
        """Take one step of every optimiser on one batch."""
        job, size = self.job, self.job.train.batch
        index = self.order[:, batch * size : (batch + 1) * size]
        rows = [self._pick(rows, index) for rows in self.rows]
        if job.again is not None:
            rows[0] = self._pick_own(self.shown, index)
        if self.rehearsal is not None:
            x, *others = (self._pick_own(rows, self.drawn[:, batch]) for rows in self.rehearsal)
            again = (job.net.prepare(x), *others)
            rows = [torch.cat(pair, dim=1 if self.together else 0) for pair in zip(rows, again, strict=True)]
        if self.augmentation:
            rows[0] = self._augmented(rows[0], batch)
        rows[0] = job.net.laid_out(rows[0])
        told = [torch.tensor(number, device=job.net.device) for number in job.told(epoch, batch, self.batches)]
        noise: AbstractContextManager[Any] = nullcontext()
        counted = Flops() if math.isnan(self.flops) else nullcontext()
        if job.net.stochastic:
            noise = rng.ambient(self.seeds[0], "noise", *self.draw, epoch, batch, device=job.net.device)
        with counted:
            with noise, job.net.training():
                losses = self.loss(self.params, self.frozen, *rows, *told)
            losses.sum().backward()
        if isinstance(counted, Flops):
            self.flops = counted.total / len(self.seeds) * len(self.rows[0]) / index.shape[1]
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if job.project is not None:
            with torch.no_grad():
                job.project(self.params)
        self.total += losses.detach() * index.shape[1]

    def end_epoch(self) -> list[float]:
        """Return the mean loss of each seed."""
        for schedule in self.schedules:
            schedule.step()
        return [float(value) / len(self.rows[0]) for value in self.total.tolist()]

    def judge(self) -> None:
        """Test on the validation rows, if there are any, and keep the weights of seeds that have never been better."""
        if self.job.validation is None or self.best.enough:
            return
        x, y = (rows.to(self.job.net.device) for rows in self.job.validation)
        with torch.no_grad():
            right = self.logits(x).argmax(dim=-1) == y
        self.best.look(right.float().mean(dim=-1), self.whole())

    def logits(self, x: Tensor) -> Tensor:
        """Return ``[S, N, C]`` of the seeds of this learner."""
        assert self.job.logits is not None
        net, function = self.job.net, self.job.logits
        ready = [net.laid_out(net.prepare(part)) for part in net.chunks(x)]
        if not self.together:
            return torch.cat([function(self.params, self.frozen, part) for part in ready]).unsqueeze(0)
        batched = torch.vmap(function, in_dims=(0, self.shared, None))
        return torch.cat([batched(self.params, self.frozen, part) for part in ready], dim=1)

    def result(self) -> Tree:
        """Return the trained tree, with the axis of seeds in front."""
        return self.whole() if self.best.params is None else self.best.params

    def whole(self) -> Tree:
        """Return the tree as it is now, with the axis of seeds in front."""
        return mapped(
            lambda leaf: leaf.detach() if self.together else leaf.detach().contiguous().unsqueeze(0), self.params
        )

    def _pick(self, rows: Tensor, index: Tensor) -> Tensor:
        return rows[index] if self.together else rows.index_select(0, index[0])

    def _pick_own(self, rows: Tensor, index: Tensor) -> Tensor:
        if not self.together:
            return rows.index_select(0, index[0])
        return torch.stack([own.index_select(0, i) for own, i in zip(rows, index, strict=True)])

    def _augmented(self, x: Tensor, batch: int) -> Tensor:
        rehearsed, size, rows = self.job.rehearsal_batch, self.job.train.batch, len(self.rows[0])
        own = self.changes[:, batch * size : min((batch + 1) * size, rows)]
        again = self.changes[:, rows + batch * rehearsed : rows + (batch + 1) * rehearsed]
        drawn = torch.cat([own, again], dim=1).flatten(0, 1)
        images = x.reshape(-1, *x.shape[-3:])  # a row may be several images, of several tasks: all are changed alike
        assert self.black is not None
        shown = self.augmentation.applied(images, drawn.repeat_interleave(len(images) // len(drawn), dim=0), self.black)
        return shown.reshape(x.shape)

    def _draws(self, seed: int, purpose: str, epoch: int) -> torch.Generator:
        return rng.tensors(seed, purpose, *self.draw, epoch)


@torch.no_grad()
def _logits(learners: list[_Learner], x: Tensor) -> Tensor:
    return torch.cat([learner.logits(x) for learner in learners])


def _stacked(results: list[Tree]) -> Tree:
    parts = [dict(leaves(result)) for result in results]
    return built({path: torch.cat([part[path] for part in parts]) for path in parts[0]})


def _versions(tree: Tree | None) -> list[int]:
    return [] if tree is None else [leaf._version for _, leaf in leaves(tree)]
