"""The columns of a log's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from cl_engine.events import MetricScored, Transferred, UnitsDiagnosed
from cl_engine.loggers.tables import Column, Table

EPOCHS = (
    Column("step", "i4", "1", "experience being learned"),
    Column("task", "i4", "1", "its task"),
    Column("fit", "i4", "1", "number of the fit within the experience"),
    Column("epoch", "i4", "1", "epoch: pass over the training rows, from 0"),
    Column("seed", "i8", "1", "seed"),
    Column("loss", "f4", "1", "mean training loss of the epoch"),
    Column("seconds", "f8", "s", "duration of the epoch, all seeds together"),
)
EXPERIENCES = (
    Column("step", "i4", "1", "experience"),
    Column("task", "i4", "1", "its task"),
    Column("rows", "i8", "1", "training rows"),
    Column("memory", "i8", "byte", "bytes one seed holds after it"),
    Column("training_flops", "f8", "1", "operations of the fits, those of one seed; NaN: not counted"),
    Column("inference_flops", "f8", "1", "operations of answering one row of it, those of one seed; NaN: not counted"),
    Column("seconds", "f8", "s", "duration of learning it, all seeds together"),
)
TESTED = (
    Column("batch", "i8", "1", "batches learned so far"),
    Column("epoch", "i4", "1", "epochs completed so far"),
    Column("seed", "i8", "1", "seed"),
    Column("n_correct", "i8", "1", "test rows answered correctly; 0 where the measure is not accuracy"),
    Column("n_total", "i8", "1", "test rows; 0 where the measure is not accuracy"),
    Column("score", "f8", "1", "score on the task, by its measure"),
    Column("seconds", "f8", "s", "duration of the test, all seeds together"),
)
CURVES = (
    Column("step", "i4", "1", "experience being learned"),
    Column("task", "i4", "1", "its task, the one tested"),
    *TESTED,
)
STABILITY = (
    Column("step", "i4", "1", "experience being learned"),
    Column("task", "i4", "1", "the task tested, one learned before"),
    *TESTED,
)
ONLINE = (
    Column("step", "i4", "1", "experience being learned"),
    Column("task", "i4", "1", "its task"),
    Column("fit", "i4", "1", "number of the fit within the experience"),
    Column("epoch", "i4", "1", "epoch: pass over the training rows, from 0"),
    Column("batch", "i8", "1", "batches of the epoch learned so far"),
    Column("seed", "i8", "1", "seed"),
    Column("rows", "i8", "1", "training rows scored, those since the row before"),
    Column("score", "f8", "1", "score by the forward pass that trained on them, by the measure; NaN: not measured"),
)
EVENTS = (
    Column("event", "i8", "1", "number of the event: rows with the same number are one event"),
    Column("step", "i4", "1", "experience"),
    Column("kind", "str", "1", "kind of event"),
    Column("name", "str", "1", "name of the number"),
    Column("part", "str", "1", "what part of the net it is about; empty: the whole"),
    Column("seed", "i8", "1", "seed the number belongs to; -1: all"),
    Column("value", "f8", "1", "the number"),
    Column("seconds", "f8", "s", "duration the event tells of; NaN: none"),
)

DIAGNOSTICS = (
    Column("step", "i4", "1", "experience about to be learned"),
    Column("task", "i4", "1", "its task"),
    Column("layer", "str", "1", "linear or convolution layer"),
    Column("units", "i4", "1", "units that it reads; 0: inputs, of which there is nothing to say"),
    Column("weights", "i8", "1", "weights that it has, biases left out"),
    Column("seed", "i8", "1", "seed"),
    Column("dead", "f4", "1", "share of these units that are 0 on all rows"),
    Column("dormant", "f4", "1", "share of them that are weak beside the mean of the layer (agenda.dormant)"),
    Column(
        "linearised", "f4", "1", "share of them that are on for nine rows of ten; NaN where the activation squashes"
    ),
    Column("effective_rank", "f4", "1", "exp of the entropy of the singular values of what is read"),
    Column("stable_rank", "f4", "1", "sum of their squares over the greatest"),
    Column("rank_99", "f4", "1", "least number of them that make up 99 % of their sum"),
    Column("rank_99_squares", "f4", "1", "the same of their squares"),
    Column("weight_mean", "f4", "1", "mean magnitude of the layer's weights"),
    Column("weight_norm", "f4", "1", "their Frobenius norm"),
    Column("gradient_norm", "f4", "1", "norm of the loss's gradient of them; NaN where they are not trained"),
    Column("distance", "f4", "1", "norm of their difference to what the net began with"),
)
METRICS = (
    Column("step", "i4", "1", "experience learned last; -1: untrained"),
    Column("evaluation", "i4", "1", "row of R"),
    Column("task", "i4", "1", "the task tested; -1: the metric is of the whole run"),
    Column("metric", "str", "1", "name in agenda.metrics"),
    Column("seed", "i8", "1", "seed"),
    Column("value", "f8", "1", "the metric; NaN: undefined"),
)
METRIC_SUMS = (
    *METRICS[:5],
    Column(
        "place", "i4", "1", "place of the sum among those of the metric; places that are not there are 0, the last is"
    ),
    Column("value", "f8", "1", "the sum over test rows"),
)
TRANSFERS = (
    Column("step", "i4", "1", "experience after which it was tried"),
    Column("task", "i4", "1", "the task answered"),
    Column("sources", "str", "1", "tasks whose nets are read, with + between them; empty: none"),
    Column("kind", "str", "1", "full, transfer, copies, untrained or scratch"),
    Column("labels", "i8", "1", "training rows with a label that were used"),
    Column("seed", "i8", "1", "seed"),
    Column("score", "f8", "1", "score on the validation rows, by the task's measure"),
    Column("rows", "i8", "1", "validation rows: as many follow one another in the table outcomes"),
)
OUTCOMES = (
    Column("step", "i4", "1", "experience after which it was tried"),
    Column("loss", "f4", "1", "loss of a validation row"),
    Column("error", "f4", "1", "0 or 1 where the task asks for classes: whether the answer is wrong; else the loss"),
)


def transfer_rows(event: Transferred, seeds: Sequence[int]) -> Iterator[tuple[tuple[Any, ...], list[tuple[Any, ...]]]]:
    """Yield for each seed a row of ``transfers``, and those of ``outcomes`` that belong to it."""
    of_seeds = zip(seeds, event.sources, event.score, event.losses.tolist(), event.errors.tolist(), strict=True)
    for seed, sources, score, losses, errors in of_seeds:
        what = ("+".join(map(str, sources)), event.kind, event.labels, seed, score, len(losses))
        yield (event.step, event.task_id, *what), [(event.step, *pair) for pair in zip(losses, errors, strict=True)]


def metric_rows(event: MetricScored, seeds: Sequence[int]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the rows of a metric, each with its table: a value a seed, and the sums that are not 0 for all seeds."""
    where = (event.step, event.evaluation, event.task_id, event.metric)
    for seed, value in zip(seeds, event.value, strict=True) if event.value else ():
        yield "metrics", (*where, seed, value)
    if event.sums is None:
        return
    told = (event.sums != 0).any(axis=0)
    told[-1] = True  # so that it is known how many there are
    for place in np.flatnonzero(told).tolist():
        for seed, value in zip(seeds, event.sums[:, place].tolist(), strict=True):
            yield "metric_sums", (*where, seed, place, value)


def untrained_metrics(file: h5py.File) -> set[tuple[int, str]]:
    """Return the tasks on which the untrained learner has been tested already, each with a metric of it.

    Of a stream without end they come into view one by one; going on from a checkpoint, the latest is tested again.
    """
    if "metrics" not in file:
        return set()
    steps, tasks = file["metrics/step"][:], file["metrics/task"][:]
    metrics, rows = file["metrics/metric"].asstr()[:], np.flatnonzero(steps < 0)
    return {(int(tasks[row]), str(metrics[row])) for row in rows}


def diagnostic_rows(event: UnitsDiagnosed, seeds: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Yield for each seed a row of ``diagnostics``."""
    for place, seed in enumerate(seeds):
        numbers = (getattr(event, column.name)[place] for column in DIAGNOSTICS[6:])
        yield (event.step, event.task_id, event.part, event.units, event.weights, seed, *numbers)


def all_tables() -> dict[str, Table]:
    """Return all tables of a log by name, without rows."""
    return {
        "epochs": Table("epochs", EPOCHS),
        "experiences": Table("experiences", EXPERIENCES),
        "curves": Table("curves", CURVES),
        "stability": Table("stability", STABILITY),
        "events": Table("events", EVENTS),
        "online": Table("online", ONLINE),
        "diagnostics": Table("diagnostics", DIAGNOSTICS, optional=True),
        "metrics": Table("metrics", METRICS, optional=True),
        "metric_sums": Table("metric_sums", METRIC_SUMS, optional=True),
        "transfers": Table("transfers", TRANSFERS, optional=True),
        "outcomes": Table("outcomes", OUTCOMES, optional=True),
    }


def with_score(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row of a table of tests, given one as journals had them before format 2.0: without the score."""
    *where, right, total, seconds = row
    return (*where, right, total, right / total if total else math.nan, seconds)


def fill_scores(group: h5py.Group) -> None:
    """Fill the column of scores in a table of tests that did not have it: from the counts."""
    right, total = group["n_correct"][:], group["n_total"][:]
    group["score"][:] = np.divide(right, total, out=np.full(len(right), np.nan), where=total > 0)
