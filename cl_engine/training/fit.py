"""The training loop: a loss written for one seed, run for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.torch_defaults import under_torch_defaults
from cl_engine.core.tree import Tree, leaves_with_path, tree_map, unflatten
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import EpochEnded, Event, NotFinite, OnlineScored, Progress
from cl_engine.nn.batching import trained_at_once
from cl_engine.targets.classes import Classes
from cl_engine.training.diagnostics import diagnosed
from cl_engine.training.early_stopping import where_seeds
from cl_engine.training.fit_job import FitJob, TrainingProbe
from cl_engine.training.fit_observer import FitEnded
from cl_engine.training.fit_progress import FitRecord, Resumable
from cl_engine.training.group_upkeep import kind_of
from cl_engine.training.one_seed import OneSeed
from cl_engine.training.rates import follows_validation
from cl_engine.training.seed_group import SeedGroup
from cl_engine.training.vmapped_seeds import VmappedSeeds
from cl_engine.training.workers import WorkerPool

BREATH = 0.05  # seconds between two looks at whether anybody still reads


def no_rows(task_id: int, step: int) -> UsageError:
    """Return the error for a task without rows to learn from."""
    return UsageError(
        f"there are no rows to learn task {task_id} from, at step {step}: let the stream have more rows a class, or set fewer "
        "aside for validation"
    )


def no_validation(strategy: str) -> UsageError:
    """Return the error for a strategy that needs validation rows where there are none."""
    return UsageError(
        f"stream.validation: the strategy '{strategy}' decides on validation rows, and the stream sets none aside: say which "
        "share of the training rows it shall, such as 0.2"
    )


@under_torch_defaults
def fit(job: FitJob) -> Generator[Event, None, Tree]:
    """Train and return the new ``params`` (the given ones are not changed), yielding progress on the way.

    Several seeds run as one `torch.vmap` (`Net.side_by_side`), in processes of their own (`WorkerPool`), or in turn,
    whichever is fastest. A seed's batches are the same each way, and its result is the same within rounding.

    Raises:
        UsageError: if there are no rows to learn from.
        RunFailed: if a loss is not finite at the end of an epoch, or the loss changed a frozen tensor.
    """
    if not len(job.rows[0]):
        raise no_rows(job.task_id, job.step)
    if job.diagnostics is not None:
        yield from diagnosed(job)
    record = job.record or FitRecord()
    if record.result is not None:
        yield from _told(job, record.facts)
        if job.memory is not None:
            job.memory.state = record.memory
        if job.upkeep_memory is not None and record.upkeep:
            job.upkeep_memory.state = record.upkeep
        return tree_map(Tensor.clone, record.result)
    groups = _groups(job)
    first = _resumed_epoch(record, groups)
    yield from list(_told(job, record.facts))
    pool = WorkerPool(groups)
    try:
        if job.observer is not None:
            job.observer.fit_begins(groups)
        with suppress(FitEnded):
            yield from _epochs(job, record, pool, first)
        pool.each(SeedGroup.check)
        results = pool.each(SeedGroup.result)
        kept = [] if job.memory is None else pool.each(SeedGroup.remembered)
        kept_up = pool.each(SeedGroup.kept_up)
    finally:
        if job.observer is not None:
            job.observer.fit_ends()
        pool.close()
        for group in groups:
            group.replay = None  # it knows the group: together they would stay until garbage is collected
    trained = results[0] if len(results) == 1 else _stacked(results)
    if record.stopped:
        trained = _without(trained, job, record.stopped)
    if job.memory is not None:
        job.memory.keep(_stacked(kept), groups[0].optimizers, trained)
    upkept = _stacked(kept_up)
    if job.upkeep is not None and job.upkeep_memory is not None and upkept:
        job.upkeep_memory.put(upkept, kind_of(job.upkeep), trained)
    if job.record is not None:
        memories = (job.memory, job.upkeep_memory if upkept else None)
        record.finish(trained, *({} if memory is None else memory.state for memory in memories))
    return trained


def _groups(job: FitJob) -> list[SeedGroup]:
    seeds = len(job.seeds)
    alike = job.plateau is None and not follows_validation(job.train)  # otherwise each seed has a rate of its own
    vmapped = seeds > 1 and alike and (job.net.side_by_side(seeds) if job.side_by_side is None else job.side_by_side)
    if not vmapped:
        return [OneSeed(job, number) for number in range(seeds)]
    groups = trained_at_once(seeds, job.net.device, lambda: _numbers_a_step(job))
    return [VmappedSeeds(job, own) if len(own) > 1 else OneSeed(job, own.start) for own in groups]


def _numbers_a_step(job: FitJob) -> int:
    """Return how many numbers the maps of a step of one seed have, as far as the net tells of a call with all its rows."""
    if job.rows[0].shape[1:] != job.net.input_shape:
        return 0  # a readout, say, whose rows are features
    rows = min(job.arrival or job.train.batch, job.learned) + job.rehearsed + sum(b.rehearsed or 0 for b in job.beside)
    return rows * job.net.maps.every


def _epochs(job: FitJob, record: FitRecord, pool: WorkerPool, first: int) -> Iterator[Event]:
    """Learn epoch after epoch, from the ``first`` on."""
    batches = job.batches
    breath = time.perf_counter()

    def tested(batch: int) -> bool:
        return job.logits is not None and job.curve.wants(batch, batches)

    def probe(batch: int) -> Iterator[Event]:
        if tested(batch):
            yield TrainingProbe(
                step=job.step,
                batch=batch,
                epoch=batch // batches,
                predict=lambda x: torch.cat(pool.each(SeedGroup.logits, x)),
                params=lambda: _stacked([tree_map(Tensor.clone, whole) for whole in pool.each(SeedGroup.whole)]),
                record=record if job.record is not None else None,
            )

    if not first:
        yield from probe(0)
    for epoch in range(first, job.epochs):
        if all(pool.each(SeedGroup.stopped_early)):
            break
        started = time.perf_counter()
        pool.each(SeedGroup.start_epoch, epoch, batches)
        at = 0
        if epoch == first:
            at = min(pool.each(SeedGroup.advance, 1, 0.0))
            if job.observer is None:  # it is in this process
                pool.divide(job.epochs - first)
        for stop in (*(batch for batch in range(1, batches) if tested(epoch * batches + batch)), batches):
            while at < stop:
                if time.perf_counter() - breath > BREATH:
                    yield Progress(step=job.step, done=(epoch * batches + at) / (batches * job.epochs))
                    breath = time.perf_counter()
                at = min(pool.each(SeedGroup.advance, stop, BREATH / pool.turns))
            if stop < batches:
                yield from probe(epoch * batches + stop)
        loss = tuple(value for losses in pool.each(SeedGroup.end_epoch) for value in losses)
        ended = EpochEnded(
            step=job.step,
            task_id=job.task_id,
            fit=job.index,
            epoch=epoch,
            epochs=job.epochs,
            loss=loss,
            flops=pool.groups[0].flops,
            seconds=time.perf_counter() - started,
        )
        facts: list[OnlineScored | EpochEnded] = [*_online(job, epoch, pool.each(SeedGroup.online_sums)), ended]
        for fact in facts:
            record.note(fact)
        yield from _told(job, facts)
        found = _not_finite(job, epoch, loss, record.stopped)
        if found is not None:
            record.note(found)
            yield found
        yield from probe((epoch + 1) * batches)
        pool.each(SeedGroup.validate)
        if job.record is not None:
            record.end_epoch(epoch, lambda: pool.each(SeedGroup.state))
            yield Resumable(step=job.step, fit=job.index)


def _online(job: FitJob, epoch: int, of_groups: Sequence[Sequence[tuple[int, np.ndarray]]]) -> Iterator[OnlineScored]:
    """Yield how the rows of an epoch were answered before they were learned, of the seeds of all groups together."""
    target, begin = job.target or Classes.of(classes=job.net.outputs), 0
    for marks in zip(*of_groups, strict=True):
        batch, sums = marks[0][0], np.concatenate([own for _, own in marks])
        end = job.places(0, batch - 1).stop
        counted = sums.any(axis=1)  # no loss asks the target of some fits for anything
        scores = np.where(counted, target.score(sums), np.nan)
        yield OnlineScored(
            step=job.step,
            task_id=job.task_id,
            fit=job.index,
            epoch=epoch,
            batch=batch,
            rows=end - begin,
            score=tuple(scores.tolist()),
            sums=tuple(map(tuple, sums.tolist())),
        )
        begin = end


def _told(job: FitJob, facts: Iterable[Event]) -> Iterator[Event]:
    """Yield facts as they are told: what is told of an epoch of several candidates is one fact of each."""
    seeds = len(job.seeds) // job.candidates
    for fact in facts:
        for k in range(job.candidates):
            own = slice(k * seeds, (k + 1) * seeds)
            match fact:
                case EpochEnded():
                    yield replace(fact, fit=fact.fit + k, loss=fact.loss[own], seconds=fact.seconds / job.candidates)
                case OnlineScored():
                    yield replace(fact, fit=fact.fit + k, score=fact.score[own], sums=fact.sums[own])
                case _ if not k:
                    yield fact


def _not_finite(job: FitJob, epoch: int, loss: tuple[float, ...], known: set[int]) -> NotFinite | None:
    """Return which seeds' losses are not finite for the first time; None: all are.

    Raises:
        RunFailed: if they are to stop the run.
    """
    bad = {seed: value for seed, value in zip(job.seeds, loss, strict=True) if not math.isfinite(value)}
    if not bad.keys() - known:
        return None
    if job.train.not_finite == "stop_run":
        seed, value = next(iter(bad.items()))
        others = ", or let other seeds go on without it: train.not_finite = 'stop_seed'" if len(job.seeds) > 1 else ""
        raise RunFailed(
            f"the loss of seed {seed} is {value} at step {job.step} (task {job.task_id}), epoch {epoch}: "
            f"lower train.lr, now {job.train.lr}{others}"
        )
    return NotFinite(
        step=job.step, task_id=job.task_id, fit=job.index, epoch=epoch, seeds=tuple(sorted(bad.keys() - known))
    )


def _without(trained: Tree, job: FitJob, stopped: set[int]) -> Tree:
    """Return what was trained, with what the seeds that were stopped began with: a strategy never meets their NaN."""
    rows = torch.tensor([seed in stopped for seed in job.seeds], device=job.net.device)
    before = dict(leaves_with_path(job.params))
    return unflatten(
        {path: where_seeds(rows, before[path].to(leaf.device), leaf) for path, leaf in leaves_with_path(trained)}
    )


def _resumed_epoch(record: FitRecord, groups: list[SeedGroup]) -> int:
    """Bring the groups to where the record says, and return the epoch to resume at."""
    saved = record.groups
    if len(saved) != len(groups) or not all(group.fits(state) for group, state in zip(groups, saved, strict=True)):
        record.forget()
        return 0
    for group, state in zip(groups, saved, strict=True):
        group.restore(state)
    return record.epoch + 1


def _stacked(results: list[Tree]) -> Tree:
    parts = [dict(leaves_with_path(result)) for result in results]
    return unflatten({path: torch.cat([part[path] for part in parts]) for path in parts[0]})
