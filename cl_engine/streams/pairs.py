"""Pairs: tasks of two classes each, for streams that are longer than classes could be dealt out."""

from __future__ import annotations

from cl_engine.core import rng
from cl_engine.data.source_stream import SourceStream
from cl_engine.errors import UsageError
from cl_engine.options import option


class Pairs(SourceStream):
    """Pairs: each task tells two classes of the source apart, and classes come again in ever new pairs (Dohare et al. 2024).

    As in Continual ImageNet, classes are shuffled and read in pairs, and when all were read they are shuffled anew. Without
    ``n`` the stream has no end; ``again = false`` ends it when every class was in a task.

    >>> from cl_engine.testing.small import images
    >>> stream = Pairs(images(classes=6), source="given", n=5)
    >>> sorted(label for kind in range(3) for label in stream.classes_of(kind))
    [0, 1, 2, 3, 4, 5]
    """

    again: bool = option(True, "classes come again, in new pairs, when all have come")

    def prepare(self) -> None:
        whole = self.arrays.classes // 2
        if not self.again and self.n_tasks is not None and self.n_tasks > whole:
            raise UsageError(
                f"stream.n: found {self.n_tasks}; the classes of '{self.source}' are {whole} pairs, and none comes again: "
                "set stream.again"
            )

    def all_tasks(self) -> int | None:
        return None if self.again else self.arrays.classes // 2

    def classes_of(self, kind: int) -> tuple[int, ...]:
        round_, place = divmod(kind, self.arrays.classes // 2)
        order = rng.arrays(self.seed, "pairs", round_).permutation(self.arrays.classes)
        return tuple(order[2 * place : 2 * place + 2].tolist())

    def title(self, kind: int) -> str:
        return "classes {} and {}".format(*self.classes_of(kind))
