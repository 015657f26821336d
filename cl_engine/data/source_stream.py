"""Streams made from one source of labelled arrays: which rows, which labels, how many."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import ByRow, ChosenRows, Half, Lens, Transformed
from cl_engine.data.seeded_stream import SeededStream
from cl_engine.data.source import Arrays, Sources
from cl_engine.errors import UsageError
from cl_engine.options import option

MOST = 10**7  # experiences


class SourceStream(SeededStream):
    """A stream of tasks over one source: a task is a set of its classes, seen through a transformation of the inputs.

    >>> from cl_engine.testing.small import images
    >>> class Halves(SourceStream):
    ...     def classes_of(self, kind):
    ...         return (0, 1, 2) if kind == 0 else (3, 4, 5)
    >>> stream = Halves(images(classes=6), source="given", n=2)
    >>> stream.outputs, stream[1].train.y.unique()
    (3, tensor([0, 1, 2]))
    """

    source: str = option(..., "where the data come from: a name of `list sources`")
    samples_per_class: int | None = option(None, "training rows of a class in a task; left out: all", ge=1)
    test_samples_per_class: int | None = option(None, "test rows of a class in a task; left out: all", ge=1)
    same_rows: bool = option(False, "where rows are drawn: the same of a class in all tasks, drawn once", before=False)
    validation: float = option(0.0, "share of the training rows of each class set aside for choices", ge=0, lt=1)
    pixels: Literal["standard", "unit", "symmetric"] = option(
        "standard",
        "what nets see bytes as: in deviations from the source's mean, from 0 to 1, or from −1 to 1",
        before="standard",
    )
    revisit: int | list[int] = option(
        0, "how often all tasks come back, in order, or a list of the tasks that come back"
    )
    task_order: int | list[int] = option(
        0, "0: the stream's own order of tasks; k > 0: the k-th seeded shuffle; a list of all tasks: that order"
    )

    def __init__(self, arrays: Arrays, device: torch.device | str = "cpu", **options: Any) -> None:
        """Build the stream over ``arrays``, its tensors on ``device``.

        Raises:
            UsageError: for options that do not exist, or do not fit the source or each other.
        """
        self.configure(options, "stream")
        self.device = torch.device(device)
        self.arrays = arrays
        need_classes(self.source, arrays)
        self.mean, self.std, self.vocabulary = arrays.mean, arrays.std, arrays.vocabulary
        if self.pixels != "standard":
            self.mean, self.std = self._scaling()
        self.input_shape = tuple(arrays.train_x.shape[1:])
        self.n_tasks = self.n if self.n is not None else self.all_tasks()
        self._order = sequence(self.revisit, self.n_tasks)
        self.n_steps = None if self.n_tasks is None else len(self._order or range(self.n_tasks))
        self._train = _ByClass("train", arrays.train_x, arrays.train_y, arrays.classes, self.device)
        self._test = _ByClass("test", arrays.test_x, arrays.test_y, arrays.classes, self.device)
        self.decide()

    def _scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation, a channel each, that bring stored bytes to where `pixels` says."""
        if self.arrays.train_x.dtype != np.uint8:
            raise UsageError(
                f"stream.pixels: '{self.pixels}' is about bytes, and the inputs of '{self.source}' are none: leave it out"
            )
        mean, std = {"unit": (0.0, 255.0), "symmetric": (127.5, 127.5)}[self.pixels]
        return (mean,) * len(self.arrays.mean), (std,) * len(self.arrays.std)

    def decide(self) -> None:
        # the task whose rows were drawn last, and they: it is asked for several times in a row
        self._latest: dict[Half, tuple[int, tuple[ChosenRows, ChosenRows]]] = {}
        self._kinds = ordered(self.task_order, self.n_tasks, self.seed)
        self.prepare()
        self.outputs = self._outputs()

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        return cls(sources.load(options["source"]), device=device, **options)

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return [options["source"]]

    def all_tasks(self) -> int | None:
        """Return the number of tasks when ``n`` is left out; None: without end."""
        return None

    def prepare(self) -> None:
        """Check the options against the source, and set up what tasks need; called once."""

    # What a kind of stream answers is about its k-th task in its own order, `task_order` aside.

    @abstractmethod
    def classes_of(self, kind: int) -> tuple[int, ...]:
        """Return the classes of the source that this task is about, in the order of its local labels."""

    def lens(self, kind: int, half: Half = "train") -> Lens:
        if type(self).transform_rows is not SourceStream.transform_rows:
            return ByRow(lambda x, rows: self.transform_rows(kind, x, half, rows))
        plain = type(self).transform is SourceStream.transform
        return Lens() if plain else Transformed(partial(self.transform, kind))

    def transform(self, kind: int, x: Tensor) -> Tensor:
        """Return the inputs as this task shows them; of ``input_shape``, and the same dtype."""
        return x

    def transform_rows(self, kind: int, x: Tensor, half: Half, rows: np.ndarray) -> Tensor:
        """Return what `transform` returns; where rows are shown each its own way, told which of the half these are."""
        return self.transform(kind, x)

    def rows_of(self, by_class: Sequence[np.ndarray], kind: int) -> list[np.ndarray]:
        """Return the rows of each local label of a task, given the rows of each class of the source."""
        return [by_class[label] for label in self.classes_of(kind)]

    def global_label(self, kind: int, local: int) -> int:
        """Return the label in the ``class`` setting of what has the label ``local`` within the task."""
        return self.classes_of(kind)[local]

    def relabelled(self, kind: int, y: np.ndarray) -> np.ndarray:
        """Return the labels of rows as this task asks for them, given those they have ``[N]``; the same number and type."""
        return y

    def title(self, kind: int) -> str:
        """Return a short name of the task."""
        return f"task {kind}"

    def classes_of_task(self, task_id: int, place: int = 0) -> tuple[int, ...]:
        return self.classes_of(self.kind_of(task_id))

    def classes_in(self, task_id: int) -> int:
        return len(self.classes_of_task(task_id))

    def kind_of(self, task_id: int) -> int:
        return task_id if self._kinds is None else self._kinds[task_id]

    def name_of(self, task_id: int) -> str:
        return self.title(self.kind_of(task_id))

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step if self._order is None else self._order[step]

    def rng_key(self, step: int) -> int:
        return step if self._kinds is None or step >= len(self._kinds) else self.kind_of(self.task_id(step))

    def train_rows(self, step: int) -> int:
        counts = [len(rows) for rows in self.rows_of(self._train.rows, self.kind_of(self.task_id(step)))]
        return kept_rows(counts, self.samples_per_class, self.validation)

    def test_rows(self, task_id: int) -> int:
        counts = [len(rows) for rows in self.rows_of(self._test.rows, self.kind_of(task_id))]
        return kept_rows(counts, self.test_samples_per_class, 0.0)

    def rows_learned(self, task_id: int) -> tuple[ChosenRows, ChosenRows]:
        return self._rows(self._train, self.kind_of(task_id), self.samples_per_class, self.validation)

    def rows_tested(self, task_id: int) -> ChosenRows:
        return self._rows(self._test, self.kind_of(task_id), self.test_samples_per_class, 0.0)[0]

    def describe(self) -> dict[str, str | int]:
        return {"source": self.source, **self.arrays.about}

    def _rows(self, data: _ByClass, task: int, limit: int | None, aside: float) -> tuple[ChosenRows, ChosenRows]:
        if data.half not in self._latest or self._latest[data.half][0] != task:
            self._latest[data.half] = task, self._rows_drawn(data, task, limit, aside)
        return self._latest[data.half][1]

    def _rows_drawn(self, data: _ByClass, task: int, limit: int | None, aside: float) -> tuple[ChosenRows, ChosenRows]:
        draw = rng.arrays(self.seed, "rows", data.half, 0 if self.same_rows else task)
        kept: list[np.ndarray] = []
        kept_aside: list[np.ndarray] = []
        for every in self.rows_of(data.rows, task):
            rows = draw.permutation(every)[:limit] if limit is not None or aside else every
            cut = round(len(rows) * aside)
            kept_aside.append(rows[:cut])
            kept.append(rows[cut:])
        return self._labelled(data, task, kept), self._labelled(data, task, kept_aside)

    def _labelled(self, data: _ByClass, task: int, rows: list[np.ndarray]) -> ChosenRows:
        label = (lambda k: self.global_label(task, k)) if self.setting == "class" else (lambda k: k)
        y = np.repeat([label(k) for k in range(len(rows))], [len(r) for r in rows]).astype(np.int64)
        y = self.relabelled(task, y)
        index = torch.from_numpy(np.concatenate(rows)).to(self.device)
        return ChosenRows(data.x, index, torch.from_numpy(y).to(self.device), data.half)

    def _outputs(self) -> int:
        if self.setting != "class":
            tasks = range(self.n_tasks) if self.n_tasks is not None else range(1)
            return max(len(self.classes_of(task)) for task in tasks)
        if self.n_tasks is None:
            raise self.refuse_endless("in the class setting the number of classes must be known beforehand")
        last = ((task, local) for task in range(self.n_tasks) for local in range(len(self.classes_of(task))))
        return 1 + max(self.global_label(task, local) for task, local in last)


def sequence(revisit: int | list[int], n_tasks: int | None) -> list[int] | None:
    """Return the task at each step, or None where it is the step itself.

    Raises:
        UsageError: if tasks that there are not are to come back, or all tasks of a stream without end.
    """
    if not revisit:
        return None
    if n_tasks is None:
        raise UsageError("stream.n is missing: tasks come back (stream.revisit) after the last of n")
    if isinstance(revisit, int):
        if revisit < 0:
            raise UsageError(f"stream.revisit: found {revisit}; allowed are 0, 1, 2, … or a list of tasks")
        if n_tasks * (1 + revisit) > MOST:
            raise UsageError(
                f"stream.revisit: {n_tasks} tasks that come back {revisit} times are more than {MOST} experiences"
            )
        return list(range(n_tasks)) * (1 + revisit)
    odd = [task for task in revisit if not 0 <= task < n_tasks]
    if odd:
        raise UsageError(f"stream.revisit: there is no task {odd[0]}; tasks are 0 to {n_tasks - 1}")
    return [*range(n_tasks), *revisit]


def kept_rows(counts: Sequence[int], limit: int | None, aside: float) -> int:
    """Return how many rows are left to learn from of classes with so many each: up to a limit, less those set aside."""
    taken = [count if limit is None else min(count, limit) for count in counts]
    return sum(count - round(count * aside) for count in taken)


def ordered(task_order: int | list[int], n_tasks: int | None, seed: int) -> list[int] | None:
    """Return which task of a stream's own order arrives first, second, …; None for its own order.

    Raises:
        UsageError: if the order is not one of all tasks.
    """
    if task_order == 0:
        return None
    if n_tasks is None:
        raise UsageError("stream.n is missing: only tasks whose number is known can be put in another order")
    if isinstance(task_order, int):
        if task_order < 0:
            raise UsageError(f"stream.task_order: found {task_order}; allowed are 0, 1, 2, … or a list of all tasks")
        return [int(task) for task in rng.arrays(seed, "task order", task_order).permutation(n_tasks)]
    if sorted(task_order) != list(range(n_tasks)):
        raise UsageError(f"stream.task_order must name each of the tasks 0 to {n_tasks - 1} once, found {task_order}")
    return list(task_order)


def need_classes(source: str, arrays: Arrays) -> None:
    """Raise a `UsageError` if a source has no classes that tasks could be made of, as one with other labels alone."""
    if arrays.classes < 2:
        held = f"; its labellings are {', '.join(sorted(arrays.labels))}" if arrays.labels else ""
        raise UsageError(f"source '{source}' has no two classes{held}: for other tasks use stream.name = 'views'")


class _ByClass:
    """The rows of each class of one half of the source, and the inputs on the device."""

    def __init__(self, half: Half, x: np.ndarray, y: np.ndarray, classes: int, device: torch.device) -> None:
        self.half = half
        self.x = torch.from_numpy(np.require(x, requirements=("C", "W"))).to(device)
        order = np.argsort(y, kind="stable")
        bounds = np.searchsorted(y[order], np.arange(classes + 1))
        self.rows = [order[bounds[label] : bounds[label + 1]] for label in range(classes)]
