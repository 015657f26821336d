"""A look ahead at a stream, before anything is learned: what would end the run in a later experience is refused now."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn

from cl_engine.data.stream import Data, Stream
from cl_engine.engine.boundaries import check_boundaries
from cl_engine.errors import UsageError, is_out_of_memory
from cl_engine.events import EpochEnded
from cl_engine.nn.mode import TooFewRows
from cl_engine.strategy import Strategy
from cl_engine.training.fit import no_rows, no_validation
from cl_engine.training.fit_job import batch_ends
from cl_engine.training.fitting import asked_by, asks_for_validation, check_judged, nothing_to_follow
from cl_engine.training.optimizers import Train
from cl_engine.training.transforms import transforms_of

SEEN = 1_000  # experiences at most
RATE = "changes the learning rate"
# options of training that have no meaning where rows arrive in pieces, and what they do
BY_EPOCHS = {"schedule": RATE, "milestones": RATE, "warmup": RATE, "patience": "looks at the validation rows"}


def look_ahead(stream: Stream, strategy: Strategy) -> None:
    """Refuse what cannot be learned, as far as the stream says beforehand which labels, and how many rows, come.

    Raises:
        UsageError: if labels are withheld that the strategy needs, or of tasks that there are not; if it needs validation
            rows and the stream sets none aside; naming the first experience without rows, or one that leaves a single row
            for the last batch where the strategy trains a net with batch normalisation, which cannot learn from it.
    """
    odd = [task for task in stream.unlabelled if task < 0 or (stream.n_tasks is not None and task >= stream.n_tasks)]
    if odd:
        raise UsageError(f"stream.unlabelled: there is no task {odd[0]} in a stream of {stream.n_tasks} tasks")
    check_boundaries(stream, strategy)
    _check_labels(stream, strategy)
    _check_training(stream, strategy)
    if stream.per_seed and not strategy.per_seed:
        raise UsageError(
            f"stream.per_seed: the strategy '{strategy.name()}' learns all seeds from the same rows: leave it out, and let a "
            "sweep over stream.seed give each seed a sequence of its own; or choose a strategy such as finetune"
        )
    if strategy.needs_validation and not len(stream.arrival(0).validation):
        raise no_validation(strategy.name())
    rows = list(_known(stream))
    if 0 in rows:
        step = rows.index(0)
        raise no_rows(stream.task_id(step), step)
    train = strategy.train
    if stream.pieces:
        _check_arrivals(stream, strategy, rows)
        return
    if train.leftover != "keep" or not _normalises_batches(strategy):
        return
    asked = [stream.target(stream.task_id(step)).key for step in range(len(rows))]
    for step, groups in enumerate(strategy.fitted_groups(rows, asked)):
        if _leave_one(groups, train) and _refuses_one_row(stream, strategy, step):
            raise TooFewRows(
                f"train.batch: batch normalisation cannot learn from 1 row in a batch, and of the {_told(groups)} rows at step "
                f"{step} (task {stream.task_id(step)}) batches of {train.batch} leave one over: set train.leftover = 'merge' or "
                "'drop', choose another train.batch, or another norm for the net"
            )


def _check_arrivals(stream: Stream, strategy: Strategy, rows: Sequence[int]) -> None:
    """Refuse what has no meaning, or cannot be learned, where experiences of so many rows come in pieces."""
    train, pieces = strategy.train, stream.pieces
    odd = next((name for name in BY_EPOCHS if getattr(train, name) != Train.model_fields[name].default), None)
    if odd is not None:
        raise UsageError(
            f"train.{odd} {BY_EPOCHS[odd]} from epoch to epoch of a task, and rows that arrive in pieces "
            "(stream.pieces) have no epochs of a task: leave it out"
        )
    if stream.unlabelled_share is not None:
        raise UsageError(
            "stream.unlabelled_share: rows with and without labels come together, and stream.pieces lets rows come one "
            "after the other: leave out one of them"
        )
    if strategy.takes_arrivals and train.leftover == "keep" and _normalises_batches(strategy):
        single = [step for step, count in enumerate(rows) if count % pieces == 1 or pieces == 1]
        if single:
            raise TooFewRows(
                f"stream.pieces: batch normalisation cannot learn from 1 row in a batch, and of the {rows[single[0]]} rows at "
                f"step {single[0]} (task {stream.task_id(single[0])}) the last arrival is one: choose another number than "
                f"{pieces}, or another norm for the net"
            )


def _check_training(stream: Stream, strategy: Strategy) -> None:
    """Refuse options of training that mean nothing, or something else, to this stream or this strategy."""
    train = strategy.train
    if not strategy.trains:
        return
    if train.label_smoothing and not any(target.smooths for target in stream.targets):
        asked = " and ".join(dict.fromkeys(target.name() for target in stream.targets))
        raise UsageError(
            f"train.label_smoothing: labels are spread over classes, and tasks of this stream ask for {asked}: leave it out"
        )
    if asks_for_validation(train):
        check_judged(strategy)
        if stream.per_seed:
            raise UsageError(
                f"{asked_by(train)}: with stream.per_seed each seed has rows of its own, and validation rows are those of the "
                "first: leave one of them out"
            )
        if not stream.pieces and not len(stream.arrival(0).validation):
            raise nothing_to_follow(train)
    shown = transforms_of(train)
    if shown is not None:
        for target in dict.fromkeys(stream.targets):
            shown.check(stream.arrival(0).train.x[:2], target)


def _check_labels(stream: Stream, strategy: Strategy) -> None:
    """Refuse a strategy that cannot do without the labels that are withheld."""
    share, tasks = stream.unlabelled_share, f"tasks {stream.unlabelled}" if stream.unlabelled else "every task"
    if share is not None and share < 1:
        if not strategy.partly_labelled:
            raise UsageError(
                f"the strategy '{strategy.name()}' does not learn from rows with and without labels beside each other, and "
                f"stream.unlabelled_share withholds {share:.0%} of the labels of {tasks}: leave it out, or choose a "
                "strategy that does, such as align"
            )
    elif (stream.unlabelled or share) and strategy.needs_labels:
        raise UsageError(
            f"the strategy '{strategy.name()}' learns from labels, and stream.unlabelled withholds those of {tasks}: leave it "
            "out, or choose a strategy that does without, such as compose or align"
        )


def _leave_one(groups: Sequence[int], train: Train) -> bool:
    """Return whether there is a batch with one row, or, of several groups of rows, with one row of a group."""
    if len(groups) == 1:
        return groups[0] % train.batch == 1
    return any(1 in np.diff(ends, prepend=0) for ends in batch_ends(groups, train))


def _told(groups: Sequence[int]) -> str:
    return " + ".join(map(str, groups))


def _known(stream: Stream) -> Iterator[int]:
    """Yield how many rows there are in ``train`` of each experience, up to the first that does not say."""
    steps = range(SEEN if stream.n_steps is None else min(SEEN, stream.n_steps))
    for step in steps:
        rows = stream.train_rows(step)
        if rows is None:
            return
        labelled = rows - round(rows * stream.withheld(stream.task_id(step)))
        yield labelled or rows


def _normalises_batches(strategy: Strategy) -> bool:
    net = strategy.net
    return any(isinstance(net.owner(name), nn.modules.batchnorm._BatchNorm) for name in net.shapes)


def _refuses_one_row(stream: Stream, strategy: Strategy, step: int) -> bool:
    """Return whether the strategy cannot train on one row, tried by a twin at a step, after two rows unless it is the first."""
    found = stream.arrival(step)
    twin = copy.copy(strategy)
    alone = {"patience": None, "schedule": "constant", "schedule_by": None}  # it has no validation rows
    twin.train = strategy.train.model_copy(update={"batch": 2, "epochs": 1, **alone})
    twin.curve, twin.journal, twin.observer = type(strategy.curve)(), None, None
    twin.targets = None if found.target is None else lambda task: stream.target(found.task_id)
    twin.state = twin.start()
    try:
        for at, rows in enumerate([2, 1] if step else [1]):
            few, none = (Data(found.train.x[:count], found.train.y[:count]) for count in (rows, 0))
            experience = dataclasses.replace(
                found, step=at, task_id=at, rng_key=at, train=few, validation=none, unlabelled=None
            )
            for event in twin.learning(experience):
                if rows == 1 and isinstance(event, EpochEnded):
                    return False
    except TooFewRows:
        return True
    except Exception as error:  # so few rows may be too few for a strategy in other ways, of which nothing follows
        if is_out_of_memory(error):
            raise
        return False
    return False
