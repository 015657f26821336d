"""Split: the classes of a source dealt out over the tasks."""

from __future__ import annotations

import numpy as np

from cl_engine.core import rng
from cl_engine.data.source_stream import SourceStream
from cl_engine.errors import UsageError
from cl_engine.options import option


class Split(SourceStream):
    """Split: each task is a few classes of the source (Zenke et al., 2017).

    Without ``n``, two classes a task. If classes do not divide evenly, the first tasks have one more.

    >>> from cl_engine.testing.small import images
    >>> Split(images(classes=6), source="given", n=3).name_of(0)
    'classes 0, 1'
    """

    class_order: int | list[int] = option(
        0, "0: the source's own order; k > 0: the k-th seeded shuffle; a list of all classes: that order"
    )

    def prepare(self) -> None:
        classes = self.arrays.classes
        if self.n_tasks is None or self.n_tasks > classes:
            raise UsageError(f"stream.n: {self.n_tasks} tasks cannot share the {classes} classes of '{self.source}'")
        order = self.class_order
        if isinstance(order, int):
            if order < 0:
                raise UsageError(f"stream.class_order: found {order}; allowed are 0, 1, 2, … or a list of all classes")
            shuffled = rng.arrays(self.seed, "class order", order).permutation(classes)
            order = list(range(classes)) if order == 0 else [int(label) for label in shuffled]
        elif sorted(order) != list(range(classes)):
            raise UsageError(f"stream.class_order must name each of the classes 0 to {classes - 1} once, found {order}")
        self._classes = [tuple(int(c) for c in part) for part in np.array_split(order, self.n_tasks)]

    def all_tasks(self) -> int:
        return max(1, self.arrays.classes // 2)

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return self._classes[kind]

    def title(self, kind: int) -> str:
        return "classes " + ", ".join(map(str, self._classes[kind]))
