"""Streams without boundaries: learners are told neither which task arrives nor that it is another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.strategy import Learning, Strategy

ALWAYS = 0  # the task of all that arrives, as far as a learner is told


def without_boundaries(learning: Callable[[Experience], Learning], experience: Experience) -> Iterator[Event]:
    """Learn an experience as rows of the one task that there is for the learner; its events are told as of the real task."""
    for event in learning(replace(experience, task_id=ALWAYS)):
        named = getattr(event, "task_id", None) == ALWAYS
        yield replace(event, task_id=experience.task_id) if named else event  # type: ignore[call-arg]


def check_boundaries(stream: Stream, strategy: Strategy) -> None:
    """Refuse what cannot do without being told of tasks, where the stream does not tell.

    Raises:
        UsageError: for a setting or tasks that differ in what they ask for, for strategies that need tasks, and for training that
            begins something anew with each task.
    """
    if stream.boundaries:
        return
    told = "stream.boundaries = false tells learners neither the task nor when it changes"
    if stream.setting == "task":
        raise UsageError(f"{told}, and stream.setting = 'task' tells one with each row: use domain or class")
    if len(stream.targets) > 1:
        kinds = ", ".join(sorted({target.name() for target in stream.targets}))
        raise UsageError(f"{told}, and these ask for several things ({kinds}): choose tasks that ask for the same")
    if stream.unlabelled:
        raise UsageError(
            f"{told}, and stream.unlabelled names tasks: leave it out, or give stream.unlabelled_share alone"
        )
    if strategy.needs_boundaries:
        raise UsageError(
            f"{told}, and the strategy '{strategy.name()}' needs that: choose one such as replay, er_ace or der"
        )
    train = strategy.train
    if train.reset_head != "never":
        raise UsageError(f"{told}, and train.reset_head = '{train.reset_head}' begins anew with each: leave it out")
    remembers = train.optimizer != "sgd" or train.momentum > 0
    if stream.pieces and strategy.takes_arrivals and strategy.trains and remembers and not train.keep_optimizer:
        raise UsageError(
            f"{told}, and an optimiser that remembers ('{train.optimizer}') would begin anew with each: set "
            "train.keep_optimizer = true"
        )
