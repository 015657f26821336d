"""Streams whose tasks are rows of inputs that are held once, chosen and seen as the stream's seed decides."""

from __future__ import annotations

import copy
from abc import abstractmethod
from functools import cached_property
from typing import Literal, Self

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import ChosenRows, Half, Lens
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.options import option

GradualBy = Literal["sampling", "inputs", "labels"]
BlurryBy = Literal["linear", "gaussian", "share"]


class SeededStream(Stream):
    """A stream that says of each task which of its inputs are its rows and how they are seen, as its seed decides.

    So each learner can have a sequence of tasks of its own over the same inputs (``per_seed``).

    >>> from cl_engine.streams.flip import Flip
    >>> stream = Flip(n=2, rows=8)
    >>> bool((stream[1].train.x == stream.of_learner(7)[1].train.x).all())
    False
    """

    seed: int = option(0, "seed of the stream's own choices; learners' seeds do not change them but for per_seed", ge=0)
    per_seed: bool = option(
        False,
        "each learner's seed has a sequence of tasks of its own: whatever the stream's seed decides",
        before=False,
    )
    gradual: int = option(
        0, "experiences put between two tasks, which mix them more and more of the later one", ge=0, le=10**4, before=0
    )
    gradual_by: GradualBy = option(
        "sampling", "how they mix: rows of either, means of inputs, or labels of either", before="sampling"
    )
    blurry: float = option(
        0.0,
        "how far rows of a task lie among those of others, in tasks, or as a share of its rows: see blurry_by",
        ge=0,
        before=0.0,
    )
    blurry_by: BlurryBy = option(
        "linear",
        "what times rows have: a density that falls linearly, a Gaussian, or for a share of a task's rows any",
        before="linear",
    )
    blurry_disjoint: float = option(
        0.5, "by share: share of the classes whose rows come in the time of their task alone", ge=0, le=1, before=0.5
    )
    pieces: int = option(
        0,
        "rows that arrive at a time, each time learned train.epochs times in one batch; 0: a task arrives whole",
        ge=0,
        before=0,
    )
    stretch: int = option(
        0,
        "such arrivals that are an experience, after which tests and saves may come; 0: all of a task",
        ge=0,
        before=0,
    )

    boundaries: bool = option(
        True, "learners are told which task arrives, and so when it changes; false: neither", before=True
    )

    @abstractmethod
    def decide(self) -> None:
        """Set up what depends on the stream's seed."""

    @abstractmethod
    def lens(self, kind: int, half: Half = "train") -> Lens:
        """Return how a task shows the inputs of one half ``[B, …]``: what is drawn for it is drawn here, once."""

    @abstractmethod
    def rows_learned(self, task_id: int) -> tuple[ChosenRows, ChosenRows]:
        """Return the rows of a task to learn from, and those set aside for validation."""

    @abstractmethod
    def rows_tested(self, task_id: int) -> ChosenRows:
        """Return the rows that a task is tested on."""

    @abstractmethod
    def train_rows(self, step: int) -> int:
        """Return how many rows there are to learn from at ``step``, told without reading them."""

    @abstractmethod
    def test_rows(self, task_id: int) -> int:
        """Return how many test rows a task has, told without reading them."""

    def classes_in(self, task_id: int) -> int:
        """Return the number of classes of a task; 0 where it does not ask for classes."""
        return 0

    def rng_key(self, step: int) -> int | None:
        """Return what the randomness of learning is derived from (`Experience.rng_key`); None: the step."""
        return None

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        kind = self.kind_of(task)
        train, validation = self.rows_learned(task)
        return Experience(
            step=step,
            task_id=task,
            train=self.shown(kind, train),
            validation=self.shown(kind, validation),
            classes=self.classes_in(task),
            rng_key=self.rng_key(step),
            target=None if self.asks_classes else self.target(task),
        )

    def kind_of(self, task_id: int) -> int:
        """Return the place in the stream's own order of the task that arrives as the ``task_id``-th."""
        return task_id

    def of_learner(self, seed: int) -> Self:
        """Return this stream as a learner's seed decides it, over the same inputs."""
        twin = copy.copy(self)
        for name in [name for name in vars(twin) if isinstance(getattr(type(twin), name, None), cached_property)]:
            del twin.__dict__[name]
        twin.seed = rng.derive(self.seed, "stream of a learner", seed)
        twin.decide()
        return twin

    def test(self, task_id: int) -> Data:
        return self.shown(self.kind_of(task_id), self.rows_tested(task_id))

    def validation_rows(self, task_id: int) -> Data:
        if self.withheld(task_id):
            return super().validation_rows(task_id)
        return self.shown(self.kind_of(task_id), self.rows_learned(task_id)[1])  # the training rows need not be made

    def shown(self, kind: int, rows: ChosenRows) -> Data:
        """Return rows as a task shows them."""
        x = rows.held.index_select(0, rows.index)
        x = self.lens(kind, rows.half)(x, rows.index) if len(x) else x.new_empty(0, *self.input_shape)
        return Data(x, rows.y)
