"""Learning that comes in pieces, for learners that know only whole experiences."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np

from cl_engine.data.pieced_stream import pieces_of
from cl_engine.data.stream import Experience
from cl_engine.events import EpochEnded, Event, Progress


def piece_by_piece(
    learn: Callable[[Experience], Generator[Event, None, None]], experience: Experience
) -> Generator[Event, None, None]:
    """Learn the arrivals of an experience one after the other, each as an experience of its own.

    What is told of them is told as of the experience they are pieces of. Their epochs are one fact, at the end: the mean loss of
    the last ones, operations and seconds of all.
    """
    losses: list[tuple[float, ...]] = []
    flops = seconds = 0.0
    count = math.ceil(len(experience.train) / experience.pieces)
    for number, piece in enumerate(pieces_of(experience)):
        for event in learn(piece):
            if not isinstance(event, EpochEnded):
                if not isinstance(event, Progress):
                    yield replace(event, step=experience.step)
                continue
            flops, seconds = flops + event.flops, seconds + event.seconds
            if event.epoch + 1 == event.epochs:
                losses.append(event.loss)
        yield Progress(step=experience.step, done=(number + 1) / count)
    if losses and len({len(each) for each in losses}) == 1:
        yield EpochEnded(
            step=experience.step,
            task_id=experience.task_id,
            fit=0,
            epoch=0,
            epochs=1,
            loss=tuple(np.mean(losses, axis=0).tolist()),
            flops=flops,
            seconds=seconds,
        )
