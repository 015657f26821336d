"""The training loop, the only one: a loss written for one seed, run for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from cl_engine.core.tree import Tree, leaves_with_path, tree_map, unflatten
from cl_engine.errors import RunFailed, UsageError
from cl_engine.events import EpochEnded, Event, NotFinite, Progress
from cl_engine.training.fit_job import FitJob, TrainingProbe
from cl_engine.training.fit_progress import FitRecord, Resumable
from cl_engine.training.seed_group import SeedGroup
from cl_engine.training.workers import WorkerPool

BREATH = 0.05  # seconds between two looks at whether anybody still reads


def fit(job: FitJob) -> Generator[Event, None, Tree]:
    """Train and return the new ``params`` (the given ones are not changed), yielding progress on the way.

    Several seeds run as one `torch.vmap` (`Net.side_by_side`), in processes of their own (`WorkerPool`), or in turn: as is
    fastest. A seed's batches are the same each way, and its result within rounding.

    Raises:
        UsageError: if there are no rows to learn from.
        RunFailed: if a loss is not finite at the end of an epoch, or the loss changed a frozen tensor.
    """
    if not len(job.rows[0]):
        raise UsageError(
            f"there are no rows to learn task {job.task_id} from, at step {job.step}: let the stream have more rows a class, "
            "or set fewer aside for validation"
        )
    record = job.record or FitRecord()
    if record.result is not None:
        yield from record.told
        return tree_map(Tensor.clone, record.result)
    seeds = len(job.seeds)
    together = seeds > 1 and (job.net.side_by_side(seeds) if job.side_by_side is None else job.side_by_side)
    groups = [list(range(seeds))] if together else [[s] for s in range(seeds)]
    learners = [SeedGroup(job, group, together) for group in groups]
    first = _taken_up(record, learners)
    yield from list(record.told)
    crew = WorkerPool(learners)
    try:
        yield from _passes(job, record, crew, first)
        crew.each("check")
        results = crew.each("result")
    finally:
        crew.close()
        for learner in learners:
            learner.replay = None  # it knows the learner: together they would stay until garbage is collected
    trained = results[0] if len(results) == 1 else _stacked(results)
    if record.stopped:
        trained = _without(trained, job, record.stopped)
    if job.record is not None:
        record.over(trained)
    return trained


def _passes(job: FitJob, record: FitRecord, crew: WorkerPool, first: int) -> Iterator[Event]:
    """Learn pass after pass, from the ``first`` on."""
    batches = math.ceil(len(job.rows[0]) / job.train.batch)
    breath = time.perf_counter()

    def tested(batch: int) -> bool:
        return job.logits is not None and job.curve.wants(batch, batches)

    def midway(batch: int) -> Iterator[Event]:
        if tested(batch):
            yield TrainingProbe(
                step=job.step,
                batch=batch,
                epoch=batch // batches,
                predict=lambda x: torch.cat(crew.each("logits", x)),
                params=lambda: _stacked([tree_map(Tensor.clone, whole) for whole in crew.each("whole")]),
                record=record if job.record is not None else None,
            )

    if not first:
        yield from midway(0)
    for epoch in range(first, job.train.epochs):
        if all(crew.each("enough")):
            break
        started = time.perf_counter()
        crew.each("start_epoch", epoch, batches)
        at = 0
        if epoch == first:
            at = min(crew.each("advance", 1, 0.0))
            crew.divide(job.train.epochs - first)
        for stop in (*(batch for batch in range(1, batches) if tested(epoch * batches + batch)), batches):
            while at < stop:
                if time.perf_counter() - breath > BREATH:
                    yield Progress(step=job.step, done=(epoch * batches + at) / (batches * job.train.epochs))
                    breath = time.perf_counter()
                at = min(crew.each("advance", stop, BREATH / crew.turns))
            if stop < batches:
                yield from midway(epoch * batches + stop)
        loss = tuple(value for losses in crew.each("end_epoch") for value in losses)
        ended = EpochEnded(
            step=job.step,
            task_id=job.task_id,
            fit=job.index,
            epoch=epoch,
            epochs=job.train.epochs,
            loss=loss,
            flops=crew.learners[0].flops,
            seconds=time.perf_counter() - started,
        )
        record.note(ended)
        yield ended
        found = _not_finite(job, epoch, loss, record.stopped)
        if found is not None:
            record.note(found)
            yield found
        yield from midway((epoch + 1) * batches)
        crew.each("judge")
        if job.record is not None:
            record.reached(epoch, lambda: crew.each("state"))
            yield Resumable(step=job.step, fit=job.index)


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
        {
            path: torch.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), before[path].to(leaf.device), leaf)
            for path, leaf in leaves_with_path(trained)
        }
    )


def _taken_up(record: FitRecord, learners: list[SeedGroup]) -> int:
    """Bring the learners to where the record says, and return the pass to go on with."""
    saved = record.learners
    if len(saved) != len(learners) or not all(
        learner.fits(state) for learner, state in zip(learners, saved, strict=True)
    ):
        record.forget()
        return 0
    for learner, state in zip(learners, saved, strict=True):
        learner.restore(state)
    return record.epoch + 1


def _stacked(results: list[Tree]) -> Tree:
    parts = [dict(leaves_with_path(result)) for result in results]
    return unflatten({path: torch.cat([part[path] for part in parts]) for path in parts[0]})
