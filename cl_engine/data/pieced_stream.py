"""Tasks that arrive in pieces: a few rows at a time, each of which is learned before the next comes."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import torch

from cl_engine.core import rng
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.data.stream_over import StreamOver
from cl_engine.errors import UsageError


class PiecedStream(StreamOver):
    """A stream whose rows arrive ``pieces`` at a time, in an order that the stream's seed draws, each row once.

    An experience is a stretch of such arrivals: all of a task, or ``stretch`` of them. What is between two arrivals is for
    learners alone; tests and saves come between stretches. A task that comes in one piece is the experience it would be.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.streams.permuted import Permuted
    >>> stream = PiecedStream(Permuted(images(), source="given", n=2, setting="domain", samples_per_class=2), pieces=2, stretch=3)
    >>> [(stream.task_id(step), len(stream[step].train), stream[step].pieces) for step in range(stream.n_steps)]
    [(0, 6, 2), (0, 6, 2), (1, 6, 2), (1, 6, 2)]
    """

    def __init__(self, stream: Stream, pieces: int, stretch: int) -> None:
        """Let a stream's experiences arrive so many rows at a time, ``stretch`` arrivals an experience; 0: all of a task.

        Raises:
            UsageError: if the stream cannot tell how many rows an experience has.
        """
        super().__init__(stream)
        self.pieces, self._stretch = pieces, stretch
        self._ends: list[int] = []  # steps there are up to the end of each experience of the stream, as far as known
        self._last: tuple[int, Experience] | None = (
            None  # in the order of arrival: the next stretch is of the same, mostly
        )
        if stream.n_steps is not None:
            for _ in range(stream.n_steps):
                self._count()
            self.n_steps = self._ends[-1] if self._ends else 0

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return self.stream.task_id(self._place(step)[0])

    def __getitem__(self, step: int) -> Experience:
        self.check_step(step)
        own, part = self._place(step)
        found = self._arriving(own)
        if not found.pieces:
            return dataclasses.replace(found, step=step)
        rows = len(found.train) if not self._stretch else self._stretch * self.pieces
        train = _between(found.train, part * rows, (part + 1) * rows)
        key = found.key if not self._stretch else rng.derive(found.key, "stretch", part)
        more = (part + 1) * rows < len(found.train)
        return dataclasses.replace(found, step=step, train=train, rng_key=key, continues=more)

    def train_rows(self, step: int) -> int | None:
        own, part = self._place(step)
        rows = self._rows(own)
        most = rows if not self._stretch else self._stretch * self.pieces
        return min(most, rows - part * most)

    def _arriving(self, own: int) -> Experience:
        """Return an experience of the stream with its rows in the order in which they arrive."""
        if self._last is None or self._last[0] != own:
            found = self.stream[own]
            if len(found.train) > self.pieces:
                train = found.train
                if not self.stream.ordered:
                    order = rng.arrays(self.seed, "order of arrival", own).permutation(len(train))
                    train = _reordered(train, order)
                found = dataclasses.replace(found, train=train, pieces=self.pieces)
            self._last = own, found
        return self._last[1]

    def _place(self, step: int) -> tuple[int, int]:
        """Return which experience of the stream a step is of, and the place of its stretch within that."""
        while not self._ends or self._ends[-1] <= step:
            self._count()
        own = bisect_right(self._ends, step)
        return own, step - (self._ends[own - 1] if own else 0)

    def _count(self) -> None:
        rows = self._rows(len(self._ends))
        stretches = -(-rows // (self.pieces * self._stretch)) if self._stretch else 1
        self._ends.append((self._ends[-1] if self._ends else 0) + max(1, stretches))

    def _rows(self, own: int) -> int:
        rows = self.stream.train_rows(own)
        if rows is None:
            raise UsageError(
                f"stream.pieces: how many rows experience {own} has cannot be told beforehand: leave it out for this stream"
            )
        return rows


def pieces_of(experience: Experience) -> Iterator[Experience]:
    """Yield the arrivals of an experience, each as one of its own: what a learner sees that knows only whole experiences.

    Their steps are numbers that no other arrival has, to draw by; so are their keys.
    """
    count = -(-len(experience.train) // experience.pieces)
    for number in range(count):
        rows = _between(experience.train, number * experience.pieces, (number + 1) * experience.pieces)
        yield dataclasses.replace(
            experience,
            step=rng.derive(experience.step, "arrival", number),
            train=rows,
            rng_key=rng.derive(experience.key, "arrival", number),
            pieces=0,
            continues=experience.continues or number + 1 < count,
        )


def first_apart(experience: Experience) -> tuple[Experience, Experience]:
    """Return the first arrival of an experience, as one of its own, and the experience without it."""
    rows = len(experience.train)
    first = dataclasses.replace(experience, train=_between(experience.train, 0, experience.pieces), pieces=0)
    rest = dataclasses.replace(
        experience,
        train=_between(experience.train, experience.pieces, rows),
        rng_key=rng.derive(experience.key, "after the first"),
    )
    return first, rest


def _reordered(data: Data, order: np.ndarray) -> Data:
    index = torch.from_numpy(order).to(data.y.device)
    again, of_seeds = data.resample, data.of_seeds
    return Data(
        data.x.index_select(0, index),
        data.y.index_select(0, index),
        None if again is None else lambda number: again(number).index_select(0, index),
        None if data.index is None else data.index.index_select(0, index),
        None if of_seeds is None else of_seeds.shuffled(index),
    )


def _between(data: Data, begin: int, end: int) -> Data:
    again, of_seeds = data.resample, data.of_seeds
    return Data(
        data.x[begin:end],
        data.y[begin:end],
        None if again is None else lambda number: again(number)[begin:end],
        None if data.index is None else data.index[begin:end],
        None if of_seeds is None else of_seeds.shuffled(torch.arange(len(of_seeds), device=data.y.device)[begin:end]),
    )
