"""One against some: two-class tasks, each telling one class of the source from a few others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations

import numpy as np

from cl_engine.core import rng
from cl_engine.data.source_stream import SourceStream
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.options import option

MOST = 10**6  # tasks


class OneAgainst(SourceStream):
    """One against some: each task tells one class (label 0) from a few others (label 1) (Camp et al., 2020).

    The others, together one class of the task, are listed, or all sets of ``of`` classes take their turn: with 10 classes
    and pairs, 360 similar tasks.

    >>> from cl_engine.testing.small import images
    >>> OneAgainst(images(classes=4), source="given", shuffled=False).name_of(0)
    '0 against 1, 2'
    """

    positives: list[int] | None = option(None, "classes that take the one side; left out: all, in the source's order")
    negatives: list[list[int]] | None = option(None, "for each of the positives, the classes it is told from")
    of: int = option(2, "where negatives are left out: every set of this many other classes is a task", ge=1, le=20)
    share: float = option(1.0, "share of the other side's rows that a task has", gt=0, le=1)
    shuffled: bool = option(True, "tasks in an order drawn by the stream's seed, rather than positive by positive")

    def prepare(self) -> None:
        if self.n_tasks is not None and self.n_tasks > len(self._tasks):
            raise UsageError(f"stream.n: there are {len(self._tasks)} tasks of one class against others")

    def all_tasks(self) -> int:
        return len(self._tasks)

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return self._tasks[kind]

    def rows_of(self, by_class: Sequence[np.ndarray], kind: int) -> list[np.ndarray]:
        one, *others = self._tasks[kind]
        kept = [by_class[label][: round(len(by_class[label]) * self.share)] for label in others]
        return [by_class[one], np.concatenate(kept)]

    def global_label(self, kind: int, local: int) -> int:
        return 2 * kind + local

    def title(self, kind: int) -> str:
        one, *others = self._tasks[kind]
        return f"{one} against " + ", ".join(map(str, others))

    def __getitem__(self, step: int) -> Experience:
        return replace(super().__getitem__(step), classes=2)

    @cached_property
    def _tasks(self) -> list[tuple[int, ...]]:
        """The classes of every task, the positive one first."""
        classes = self.arrays.classes
        positives = list(range(classes)) if self.positives is None else self.positives
        if self.negatives is None:
            count = len(positives) * math.comb(classes - 1, self.of)
            if count > MOST:
                raise UsageError(
                    f"stream.of: {self.of} of {classes - 1} other classes make {count} tasks; at most {MOST} are allowed"
                )
            others = [[c for c in range(classes) if c != one] for one in positives]
            tasks = [
                (one, *some)
                for one, rest in zip(positives, others, strict=True)
                for some in combinations(rest, self.of)
            ]
        elif len(self.negatives) != len(positives):
            raise UsageError(
                f"stream.negatives: {len(self.negatives)} lists for {len(positives)} positives; give one for each"
            )
        else:
            tasks = [(one, *some) for one, some in zip(positives, self.negatives, strict=True)]
        wrong = next(
            (task for task in tasks if len(set(task)) < max(2, len(task)) or not 0 <= min(task) <= max(task) < classes),
            None,
        )
        if wrong is not None or not tasks:
            raise UsageError(
                f"stream.positives, stream.negatives: a task needs different classes from 0 to {classes - 1}, "
                f"at least two, found {list(wrong or ())}"
            )
        order = rng.arrays(self.seed, "task order").permutation(len(tasks)) if self.shuffled else range(len(tasks))
        return [tasks[int(place)] for place in order]

    def _outputs(self) -> int:
        assert self.n_tasks is not None
        return 2 * self.n_tasks if self.setting == "class" else 2
