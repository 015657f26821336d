"""Views: one source, and several questions about its inputs, each a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.augmentation import Augmentation
from cl_engine.data.rows_of_seeds import Half
from cl_engine.data.source import Sources
from cl_engine.data.source_stream import ordered, sequence
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.data.view import TRIED, View
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.targets.classes import Classes

HALVES: tuple[Half, Half] = ("train", "test")


class Views(Stream):
    """Views: every task is a labelling of the same inputs, which are held once, however many tasks there are.

    A view is a labelling that the source holds (``depth`` of `scenes`) or a label function (``parity``, ``rotation``,
    ``denoise`` …: `list labels`), with options behind a question mark: ``ink?asked=number``; those of a labelling are its
    target's: ``depth?kind=depth``. Numbers are learned in units of
    their standard deviation over the task's training rows.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.testing.streams import Given
    >>> stream = Views(Given(images()), source="digits", views=["classes", "flip", "autoencode"])
    >>> [stream.target(task).name() for task in range(3)]
    ['classes', 'classes', 'number_map']
    """

    source: str = option(..., "where inputs come from: a name of `list sources`")
    views: list[str] = option(
        ..., "what is asked, a task each: labellings of the source, and names of `list labels`", min_length=1
    )
    labelled: int | list[int] | None = option(
        None, "rows with labels in every task, or in each; left out: all training rows there are"
    )
    test_rows: int | None = option(None, "rows of a task's test; left out: all", ge=1)
    validation: float = option(0.0, "share of the training rows set aside for choices", ge=0, lt=1)
    revisit: int | list[int] = option(
        0, "how often all tasks come back, in order, or a list of the tasks that come back"
    )
    task_order: int | list[int] = option(
        0, "0: the order of `views`; k > 0: the k-th seeded shuffle; a list of all tasks: that order"
    )
    seed: int = option(0, "seed of the stream's own choices; the learners' seeds do not change the stream", ge=0)

    def __init__(self, data: Sources, /, device: torch.device | str = "cpu", **options: Any) -> None:
        """Build the stream over a source in ``data``, its tensors on ``device``.

        Raises:
            UsageError: for options that do not exist, or do not fit the source or each other.
        """
        self.configure(options, "stream")
        if self.setting != "task":
            raise UsageError(
                f"stream.setting: found '{self.setting}'; views ask different things about the same inputs, so that the task "
                "must be told: use 'task'"
            )
        if self.n is not None and self.n > len(self.views):
            raise UsageError(f"stream.n: found {self.n}, and there are {len(self.views)} views")
        self.device, arrays = torch.device(device), data.load(self.source)
        self.mean, self.std, self.vocabulary = arrays.mean, arrays.std, arrays.vocabulary
        self._about = arrays.about
        self.input_shape = tuple(arrays.train_x.shape[1:])
        self.n_tasks = len(self.views) if self.n is None else self.n
        self._kinds = ordered(self.task_order, self.n_tasks, self.seed)
        self._order = sequence(self.revisit, self.n_tasks)
        self.n_steps = len(self._order or range(self.n_tasks))
        halves = (arrays.train_x, arrays.train_y), (arrays.test_x, arrays.test_y)
        self._held = {half: _Half(x, y, self.device) for half, (x, y) in zip(HALVES, halves, strict=True)}
        self._budgets = self._labelled_rows(len(arrays.train_x))
        self._views = [View(name, self.source, arrays, data) for name in self.views[: self.n_tasks]]
        self._targets = [self._target(kind) for kind in range(self.n_tasks)]
        self.outputs = max(target.outputs for target in self._targets)

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        return cls(sources, device=device, **options)

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return [options["source"]]

    def target(self, task_id: int) -> Target:
        return self._targets[self._kind(task_id)]

    def name_of(self, task_id: int) -> str:
        return self.views[self._kind(task_id)]

    def is_free(self, task_id: int) -> bool:
        return self._views[self._kind(task_id)].free

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step if self._order is None else self._order[step]

    def __getitem__(self, step: int) -> Experience:
        task = self.task_id(step)
        kind = self._kind(task)
        rows = self._rows(kind)
        cut = round(len(rows) * self.validation)
        target = self._targets[kind]
        return Experience(
            step=step,
            task_id=task,
            train=self._data(kind, "train", rows[cut:]),
            validation=self._data(kind, "train", rows[:cut]),
            classes=target.outputs if isinstance(target, Classes) else 0,
            rng_key=step if self._kinds is None or step >= len(self._kinds) else kind,
            target=target,
        )

    def train_rows(self, step: int) -> int:
        rows = self._budgets[self._kind(self.task_id(step))]
        return rows - round(rows * self.validation)

    def check_augmentation(self, augmentation: Augmentation) -> None:
        super().check_augmentation(augmentation)
        for view in self._views:
            view.check_mirrored(augmentation)

    def test(self, task_id: int) -> Data:
        rows = np.arange(len(self._held["test"].y))
        return self._data(self._kind(task_id), "test", rows[: self.test_rows])

    def describe(self) -> dict[str, str | int]:
        return {"source": self.source, **self._about}

    def _kind(self, task_id: int) -> int:
        return task_id if self._kinds is None else self._kinds[task_id]

    def _rows(self, kind: int) -> np.ndarray:
        """Return the training rows of a view: the first of a shuffle that all views share where few are labelled."""
        every, budget = len(self._held["train"].y), self._budgets[kind]
        if budget == every and not self.validation:
            return np.arange(every)
        return rng.arrays(self.seed, "rows", "views").permutation(every)[:budget]

    def _labelled_rows(self, every: int) -> list[int]:
        budgets = self.labelled if isinstance(self.labelled, list) else [self.labelled or every] * len(self.views)
        if len(budgets) != len(self.views):
            raise UsageError(f"stream.labelled: {len(budgets)} numbers for {len(self.views)} views; one each is needed")
        odd = [budget for budget in budgets if not 1 <= budget <= every]
        if odd:
            raise UsageError(f"stream.labelled: found {odd[0]}; the source has {every} training rows")
        return budgets

    def _target(self, kind: int) -> Target:
        """Return the target of a view, which is tried on its first rows."""
        few = self._rows(kind)[:TRIED], np.arange(len(self._held["test"].y))[: self.test_rows][:TRIED]
        train, test = (self._data(kind, half, rows) for half, rows in zip(HALVES, few, strict=True))
        return self._views[kind].target((train.x, train.y), (test.x, test.y))

    def _data(self, kind: int, half: Half, rows: np.ndarray) -> Data:
        held = self._held[half]
        classes = held.y[torch.from_numpy(rows).to(self.device)]
        asked = self._views[kind].asked(half, rows, held.inputs(rows), classes, self.seed)
        return Data(*asked, index=torch.from_numpy(rows))


class _Half:
    """The inputs and classes of one half of a source, on the device."""

    def __init__(self, x: np.ndarray, y: np.ndarray, device: torch.device) -> None:
        self.x = torch.from_numpy(np.require(x, requirements=("C", "W"))).to(device)
        self.y = torch.from_numpy(np.asarray(y)).to(device)

    def inputs(self, rows: np.ndarray) -> Tensor:
        """Return these rows; a view of the tensor that is held, where they are all."""
        if len(rows) == len(self.x) and (rows == np.arange(len(rows))).all():
            return self.x[:]
        return self.x.index_select(0, torch.from_numpy(rows).to(self.x.device))
