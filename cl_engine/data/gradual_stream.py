"""Gradual change: between two experiences of a stream come some that lie between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.blurry_stream import BlurryStream
from cl_engine.data.own_streams import check_stream
from cl_engine.data.pieced_stream import PiecedStream
from cl_engine.data.rows_of_seeds import Lens, RowsOfSeeds
from cl_engine.data.seeded_stream import GradualBy, SeededStream
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.data.stream_of_seeds import for_seeds
from cl_engine.data.stream_over import StreamOver
from cl_engine.errors import UsageError


class GradualStream(StreamOver):
    """A stream whose tasks turn into each other by and by: before an experience come ``count`` mixtures with the one before it.

    A share α of a mixture is of the task to come, which rises evenly from 0 to 1. By ``sampling``, so many of its rows are rows
    of that task; by ``inputs``, each input is the mean of how both tasks show it, weighted so; by ``labels``, so many labels are
    those of that task. Mixtures count as arrivals of the task to come.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.streams.permuted import Permuted
    >>> stream = GradualStream(Permuted(images(), source="given", n=3, setting="domain"), count=2, by="sampling", seeds=1)
    >>> stream.n_steps, [stream.task_id(step) for step in range(7)]
    (7, [0, 1, 1, 1, 2, 2, 2])
    """

    def __init__(self, stream: Stream, count: int, by: GradualBy, seeds: int) -> None:
        """Put ``count`` mixtures before each experience of a stream but the first, for so many learners.

        Raises:
            UsageError: where rows of two tasks cannot stand in one experience, or cannot be mixed so.
        """
        if stream.setting == "task":
            raise UsageError(
                "stream.gradual: rows of two tasks come together, and stream.setting = 'task' tells one of each experience: use "
                "domain or class"
            )
        self._count, self._by, self._seeds = count, by, seeds
        super().__init__(stream)
        self.n_steps = None if stream.n_steps is None else stream.n_steps + max(0, stream.n_steps - 1) * count
        if by != "sampling" and self.n_steps != 1:
            self[1]  # what cannot be mixed is refused now

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return self.stream.task_id(self._place(step)[0])

    def __getitem__(self, step: int) -> Experience:
        self.check_step(step)
        own, between = self._place(step)
        found = self.stream[own]
        train = found.train if between == self._count + 1 else self._mixed(step, self.stream[own - 1], found, between)
        return dataclasses.replace(found, step=step, train=train, rng_key=None)

    def train_rows(self, step: int) -> int | None:
        return self.stream.train_rows(self._place(step)[0])

    def _place(self, step: int) -> tuple[int, int]:
        """Return the experience of the stream that a step leads to, and how many parts of the way it has gone, of count + 1."""
        if not step:
            return 0, self._count + 1
        before, within = divmod(step - 1, self._count + 1)
        return before + 1, within + 1

    def _mixed(self, step: int, old: Experience, new: Experience, between: int) -> Data:
        """Return the rows of a mixture of two experiences, each learner's own."""
        share = between / (self._count + 1)
        pairs = []
        for place in range(self._seeds if self.per_seed else 1):
            draw = rng.tensors(self.seed, "gradual", step, place)
            pairs.append(self._rows(old.train.of(place), new.train.of(place), share, draw))
        if not self.per_seed:
            return Data(*pairs[0])
        every, rows = torch.cat([x for x, _ in pairs]), len(pairs[0][1])
        index = torch.arange(len(every), device=every.device).reshape(self._seeds, rows)
        own = RowsOfSeeds(every, index, torch.stack([y for _, y in pairs]), [Lens()] * self._seeds)
        return Data(*own.of(0), of_seeds=own)

    def _rows(
        self, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], share: float, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        (old_x, old_y), (new_x, new_y) = old, new
        rows = len(new_y)
        arrived = torch.zeros(rows, dtype=torch.bool)
        arrived[torch.randperm(rows, generator=draw)[: round(share * rows)]] = True
        arrived = arrived.to(new_y.device)
        if self._by == "sampling":
            drawn = torch.randint(len(old_y), (rows,), generator=draw).to(new_y.device)
            return _where(arrived, new_x, old_x[drawn]), _where(arrived, new_y, old_y[drawn])
        if self._by == "inputs":
            if not torch.equal(old_y, new_y):
                raise self._not_alike("inputs", "rows whose labels are the same in both tasks")
            mean = (1 - share) * old_x.float() + share * new_x.float()
            return (mean if new_x.is_floating_point() else mean.round().to(new_x.dtype)), new_y
        if not torch.equal(old_x, new_x):
            raise self._not_alike("labels", "inputs that are the same in both tasks")
        return new_x, _where(arrived, new_y, old_y)

    def _not_alike(self, by: str, wanted: str) -> UsageError:
        return UsageError(
            f"stream.gradual_by = '{by}' needs {wanted}: set stream.same_rows, or use 'sampling', which takes any rows"
        )


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other)


def arranged(stream: Stream, seeds: Sequence[int]) -> Stream:
    """Return a stream as learners of these seeds meet it, where options say so: each with tasks of its own, by and by, in pieces.

    Raises:
        UsageError: where options do not fit each other or the stream, or a user's own stream is not what streams are.
    """
    check_stream(stream)
    found = for_seeds(stream, seeds)
    if not isinstance(stream, SeededStream):
        return found
    if stream.gradual:
        found = GradualStream(found, stream.gradual, stream.gradual_by, len(seeds))
    if stream.blurry:
        found = BlurryStream(found, stream.blurry, stream.blurry_by, stream.blurry_disjoint)
    if stream.stretch and not stream.pieces:
        raise UsageError(
            "stream.stretch is a number of arrivals, and stream.pieces does not say how many rows arrive at a time"
        )
    return PiecedStream(found, stream.pieces, stream.stretch) if stream.pieces else found
