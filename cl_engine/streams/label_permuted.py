"""Label-permuted: the same images under ever new names of their classes."""

from __future__ import annotations

from cl_engine.core import rng
from cl_engine.data.source_stream import SourceStream
from cl_engine.options import option


class LabelPermuted(SourceStream):
    """Label-permuted: every task is the whole source with its classes renamed by a permutation (Elsayed & Mahmood 2024).

    What is learned of the inputs stays of use, and the answers are all wrong: a task asks for a new head alone. Without ``n``
    the stream has no end. Permutations depend on the stream's seed and the task alone.

    >>> from cl_engine.testing.small import images
    >>> stream = LabelPermuted(images(classes=3), source="given", n=3)
    >>> stream.classes_of(0), sorted(stream.classes_of(1))
    ((0, 1, 2), [0, 1, 2])
    """

    first_plain: bool = option(True, "the classes of the first task keep their names")

    def classes_of(self, kind: int) -> tuple[int, ...]:
        classes = self.arrays.classes
        if self.first_plain and kind == 0:
            return tuple(range(classes))
        return tuple(rng.arrays(self.seed, "names of classes", kind).permutation(classes).tolist())

    def global_label(self, kind: int, local: int) -> int:
        return kind * self.arrays.classes + local

    def title(self, kind: int) -> str:
        return "plain" if self.first_plain and kind == 0 else f"names {kind}"
