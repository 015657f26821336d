"""A stream whose sequence of tasks each learner's seed decides by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cl_engine.data.rows_of_seeds import ChosenRows, RowsOfSeeds
from cl_engine.data.seeded_stream import SeededStream
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target

LOOKED_AT = 100  # tasks whose numbers of rows are compared beforehand


class StreamOfSeeds(Stream):
    """The streams of several seeds as one: an experience holds the rows that each seed has of its own.

    Tasks that arrive at the same step have the same number, and as many rows, for every seed; what they are about may differ.
    Inputs are held once, and seen in each seed's way batch by batch.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.streams.permuted import Permuted
    >>> stream = StreamOfSeeds(Permuted(images(), source="given", n=3, per_seed=True), [0, 1])
    >>> first, second = (stream[2].train.of_seeds.of(place)[0] for place in (0, 1))
    >>> first.shape == second.shape, bool((first == second).all())
    (True, False)
    """

    def __init__(self, stream: SeededStream, seeds: Sequence[int]) -> None:
        """Join what a stream is for learners of these seeds.

        Raises:
            UsageError: if seeds have different numbers of rows of the same task.
        """
        self._of_seeds = [stream.of_learner(seed) for seed in seeds]
        self.take_after(stream)
        self.outputs = max(one.outputs for one in self._of_seeds)
        for task in range(min(LOOKED_AT, self.n_tasks or LOOKED_AT)):
            alike([one.train_rows(task) for one in self._of_seeds], task, "samples_per_class")
            alike([one.test_rows(task) for one in self._of_seeds], task, "test_samples_per_class")

    def task_id(self, step: int) -> int:
        return self._of_seeds[0].task_id(step)

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        rows = [one.rows_learned(task) for one in self._of_seeds]
        train, validation = ([pair[half] for pair in rows] for half in (0, 1))
        return Experience(
            step=step,
            task_id=task,
            train=self._joined(train, task, "samples_per_class"),
            validation=self._joined(validation, task, "samples_per_class"),
            classes=max(one.classes_in(task) for one in self._of_seeds),
            target=None if self.asks_classes else self.target(task),
        )

    @property
    def asks_classes(self) -> bool:
        return self._of_seeds[0].asks_classes

    def target(self, task_id: int) -> Target:
        return self._of_seeds[0].target(task_id)

    def classes_of_task(self, task_id: int, place: int = 0) -> tuple[int, ...]:
        return self._of_seeds[place].classes_of_task(task_id)

    def train_rows(self, step: int) -> int:
        return self._of_seeds[0].train_rows(step)

    def test(self, task_id: int) -> Data:
        return self._joined([one.rows_tested(task_id) for one in self._of_seeds], task_id, "test_samples_per_class")

    def describe(self) -> dict[str, str | int]:
        return self._of_seeds[0].describe()

    def _joined(self, rows: Sequence[ChosenRows], task: int, option: str) -> Data:
        alike([len(own.y) for own in rows], task, option)
        lenses = [one.lens(one.kind_of(task), rows[0].half) for one in self._of_seeds]
        found = RowsOfSeeds(
            rows[0].held, torch.stack([own.index for own in rows]), torch.stack([own.y for own in rows]), lenses
        )
        return (
            Data(*found.of(0), of_seeds=found)
            if len(found)
            else Data(rows[0].held.new_empty(0, *self.input_shape), rows[0].y)
        )


def alike(counts: Sequence[int], task: int, option: str) -> None:
    """Raise a `UsageError` if seeds have different numbers of rows of a task; ``option`` of the stream can mend it."""
    if len(set(counts)) > 1:
        raise UsageError(
            f"stream.per_seed: task {task} has {min(counts)} rows for one seed and {max(counts)} for another, as its classes "
            f"have different numbers of them: set stream.{option} so that every class has as many"
        )


def for_seeds(stream: Stream, seeds: Sequence[int]) -> Stream:
    """Return a stream as learners of these seeds see it: the same for all, unless its option ``per_seed`` says otherwise."""
    return StreamOfSeeds(stream, seeds) if stream.per_seed and isinstance(stream, SeededStream) else stream
