"""The columns of a log's tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from cl_engine.events import Transferred
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


def all_tables() -> dict[str, Table]:
    """Return all tables of a log by name, without rows."""
    return {
        "epochs": Table("epochs", EPOCHS),
        "experiences": Table("experiences", EXPERIENCES),
        "curves": Table("curves", CURVES),
        "stability": Table("stability", STABILITY),
        "events": Table("events", EVENTS),
        "online": Table("online", ONLINE),
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
