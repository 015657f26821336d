"""Tasks without sharp boundaries: rows of several tasks arrive among each other, each row once."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import torch

from cl_engine.core import rng
from cl_engine.data.seeded_stream import BlurryBy
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.data.stream_over import StreamOver
from cl_engine.errors import UsageError


class BlurryStream(StreamOver):
    """A stream whose rows have times, and arrive in the order of these: so that boundaries between tasks are blurred.

    Tasks take a time of 1 each, one after the other. By ``linear``, the density of a task's rows rises and falls linearly, up to
    ``width`` tasks away from the middle of its own time; by ``gaussian``, ``width`` is its standard deviation (Shanahan et al.
    2021); by ``share``, that share of a task's rows come at any time, and the others in its own, but for the rows of a share
    ``disjoint`` of all its classes, which come in its own without exception (i-Blurry, Koh et al. 2022). Experiences hold as
    many rows as the tasks they stand for.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.streams.permuted import Permuted
    >>> stream = BlurryStream(Permuted(images(), source="given", n=3, setting="domain"), 1.0, "linear", 0.5)
    >>> [len(stream[step].train) for step in range(3)], [stream.shares(step).round(1).tolist() for step in (0, 2)]
    ([48, 48, 48], [[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    """

    ordered = True

    def __init__(self, stream: Stream, width: float, by: BlurryBy, disjoint: float) -> None:
        """Blur the boundaries of a stream.

        Raises:
            UsageError: where rows of two tasks cannot stand in one experience, or it cannot be said when which row comes.
        """
        super().__init__(stream)
        if stream.setting == "task":
            raise UsageError(
                "stream.blurry: rows of several tasks come together, and stream.setting = 'task' tells one an experience: use "
                "domain or class"
            )
        if stream.n_steps is None:
            raise stream.refuse_endless(
                "where boundaries are blurred (stream.blurry), the number of tasks must be known"
            )
        if stream.per_seed:
            raise UsageError(
                "stream.per_seed gives learners sequences of their own, and stream.blurry mixes one: leave one out"
            )
        if by == "share" and width > 1:
            raise UsageError(f"stream.blurry: found {width}; by share it is one of a task's rows, from 0 to 1")
        self._width, self._by, self._disjoint = width, by, disjoint
        self._kept: dict[int, Experience] = {}

    def task_id(self, step: int) -> int:
        return self.stream.task_id(step)

    def train_rows(self, step: int) -> int:
        return self._counts[step]

    def __getitem__(self, step: int) -> Experience:
        self.check_step(step)
        steps, rows = self._at(step)
        there = {own: self._whole(own) for own in np.unique(steps).tolist()}
        for own in [own for own in self._kept if own not in there]:
            del self._kept[own]  # those of the next experience are mostly the same
        begins = dict(
            zip(there, np.cumsum([0, *(len(found.train) for found in there.values())]).tolist(), strict=False)
        )
        index = torch.from_numpy(np.array([begins[own] for own in steps.tolist()]) + rows)
        parts = [found.train for found in there.values()]
        x, y = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "y"))
        train = Data(x.index_select(0, index.to(x.device)), y.index_select(0, index.to(y.device)))
        return dataclasses.replace(self._whole(step), step=step, train=train, rng_key=None)

    def shares(self, step: int) -> np.ndarray:
        """Return which share of an experience's rows each experience of the stream beneath has ``[n_steps]``."""
        assert self.n_steps is not None
        steps = self._at(step)[0]
        return np.bincount(steps, minlength=self.n_steps) / max(1, len(steps))

    def _whole(self, step: int) -> Experience:
        if step not in self._kept:
            self._kept[step] = self.stream[step]
        return self._kept[step]

    @cached_property
    def _counts(self) -> list[int]:
        assert self.n_steps is not None
        found = [self.stream.train_rows(step) for step in range(self.n_steps)]
        if None in found:
            raise UsageError("stream.blurry: how many rows experiences have cannot be told beforehand: leave it out")
        return [count for count in found if count is not None]

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """The experience of the stream beneath, and the row there, of all rows in the order in which they arrive."""
        times = np.concatenate([self._times(step, count) for step, count in enumerate(self._counts)])
        order = np.argsort(times, kind="stable")
        steps = np.repeat(np.arange(len(self._counts)), self._counts)
        rows = np.concatenate([np.arange(count) for count in self._counts])
        return steps[order], rows[order]

    def _at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        begin = sum(self._counts[:step])
        steps, rows = self._order
        return steps[begin : begin + self._counts[step]], rows[begin : begin + self._counts[step]]

    def _times(self, step: int, count: int) -> np.ndarray:
        draw = rng.arrays(self.seed, "times of rows", step)
        if self._by == "linear":
            return step + 0.5 + self._width * draw.triangular(-1, 0, 1, count)
        if self._by == "gaussian":
            return step + 0.5 + draw.normal(0, self._width, count)
        own, anywhere = step + draw.random(count), len(self._counts) * draw.random(count)
        label = self.stream[step].train.y.cpu().numpy()
        classes = np.unique(label)
        apart = classes[draw.random(len(classes)) < self._disjoint]
        moved = (draw.random(count) < self._width) & ~np.isin(label, apart)
        return np.where(moved, anywhere, own)
