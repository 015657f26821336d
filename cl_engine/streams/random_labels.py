"""Random labels: images whose labels mean nothing, drawn anew for every task, to be learned by heart."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cl_engine.core import rng
from cl_engine.data.source_stream import SourceStream
from cl_engine.data.stream import Data
from cl_engine.options import option


class RandomLabels(SourceStream):
    """Random labels: the same few images in every task, with labels that are drawn anew (Kumar et al. 2023; Lyle et al. 2023).

    There is nothing to generalise: a net that can still learn learns them by heart. Rows that are held out, as they are tested
    everywhere, are answered by chance; ``tested = "learned"`` tests what is still known by heart. Without ``n`` the stream has
    no end. Rows are the same in all tasks unless ``same_rows`` says otherwise.

    >>> from cl_engine.testing.small import images
    >>> stream = RandomLabels(images(classes=3), source="given", n=2, samples_per_class=4, tested="learned")
    >>> (stream[0].train.x == stream[1].train.x).all(), len(stream.test(0).y)
    (tensor(True), 12)
    """

    same_rows: bool = option(True, "where rows are drawn: the same of a class in all tasks, drawn once")
    draw: Literal["shuffle", "each"] = option(
        "shuffle", "labels: those of the rows, shuffled, so that each is as frequent as it is; or each drawn by itself"
    )

    tested: Literal["held_out", "learned"] = option(
        "held_out", "test rows: those of the source, or those that were learned"
    )

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return tuple(range(self.arrays.classes))

    def global_label(self, kind: int, local: int) -> int:
        return kind * self.arrays.classes + local

    def relabelled(self, kind: int, y: np.ndarray) -> np.ndarray:
        draw = rng.arrays(self.seed, "labels", kind, len(y))
        if self.draw == "shuffle" or not len(y):
            return draw.permutation(y)
        first = self.global_label(kind, 0) if self.setting == "class" else 0
        return first + draw.integers(self.arrays.classes, size=len(y))

    def test(self, task_id: int) -> Data:
        kind = self.kind_of(task_id)
        if self.tested == "held_out":
            return super().test(task_id)
        return self._rows(self._train, kind, self.samples_per_class, self.validation)[0]

    def title(self, kind: int) -> str:
        return f"labels {kind}"
