"""Streams that show another stream's tasks in their own way."""

from __future__ import annotations

from cl_engine.data.digest import Digest
from cl_engine.data.stream import Composition, Data, Stream
from cl_engine.nn.target import Target


class StreamOver(Stream):
    """A stream with the tasks of another, tested as they are there: a kind of it says in which experiences they arrive.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.streams.permuted import Permuted
    >>> class Backwards(StreamOver):
    ...     def task_id(self, step):
    ...         return step
    ...     def __getitem__(self, step):
    ...         return self.stream[self.n_steps - 1 - step]
    >>> Backwards(Permuted(images(), source="given", n=3)).n_tasks
    3
    """

    def __init__(self, stream: Stream) -> None:
        """Take over all that the stream says of itself."""
        self.stream = stream
        self.take_after(stream)

    def test(self, task_id: int) -> Data:
        return self.stream.test(task_id)

    def validation_rows(self, task_id: int) -> Data:
        return self.stream.validation_rows(task_id)

    @property
    def asks_classes(self) -> bool:
        return self.stream.asks_classes

    def target(self, task_id: int) -> Target:
        return self.stream.target(task_id)

    def classes_of_task(self, task_id: int, place: int = 0) -> tuple[int, ...]:
        return self.stream.classes_of_task(task_id, place)

    def describe(self) -> dict[str, str | int]:
        return self.stream.describe()

    def digests(self) -> dict[str, Digest]:
        return self.stream.digests()

    def composition(self, task_id: int) -> Composition:
        return self.stream.composition(task_id)

    def is_free(self, task_id: int) -> bool:
        return self.stream.is_free(task_id)

    def name_of(self, task_id: int) -> str:
        return self.stream.name_of(task_id)
