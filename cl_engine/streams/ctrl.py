"""CTrL: six streams that each ask one question about transfer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.images import to_shape
from cl_engine.data.several_sources import SeveralSources
from cl_engine.data.source import Arrays
from cl_engine.data.stream import Data, Experience, Setting, Shape
from cl_engine.errors import UsageError
from cl_engine.options import option

Kind = Literal["s_minus", "s_plus", "s_in", "s_out", "s_pl", "s_long"]
Size = Literal["large", "small", "tiny", "long"]
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
LONG_SOURCES = ("mnist", "svhn", "cifar10", "fashion_mnist", "cifar100")
LONG_TASKS, LONG_CLASSES, CLASSES = 100, 5, 10
ASIDE = {"cifar100": 50, "dtd": 27}  # rows of a class from which validation rows are drawn
MOST_ASIDE = 500
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class _Task:
    """What a task is made of.

    Attributes:
        source: the published source, before any stand-in takes its place.
        size: which of the stream's numbers of training and validation rows a class it has.
        classes: classes of the source, in the order of the labels.
        colour: what light falls on the images (red, green, blue), or None.
        like: the earlier task that it repeats or varies, or None.
    """

    source: str
    size: Size
    classes: tuple[int, ...]
    colour: tuple[int, int, int] | None = None
    like: int | None = None


class Ctrl(SeveralSources):
    """CTrL: S⁻, S⁺, S_in, S_out, S_pl and S_long, benchmark of continual transfer learning (Veniat et al. 2021).

    S⁻: does the last task find what the first, well learned, has to give? S⁺: and the other way round? S_in: with other
    colours? S_out: with other labels? S_pl: can the last still be learned after unrelated ones? S_long: a hundred tasks
    of five classes. Images are brought to one shape; channels are scaled by each task's own training rows. Sources that
    are not at hand can be replaced (``stand_ins``), which the log then says. Not as released: all draws come from the
    seed, and validation rows are not augmented.

    >>> from cl_engine.runs.data_root import DataRoot
    >>> from pathlib import Path
    >>> stand_ins = dict.fromkeys(("cifar10", "mnist", "dtd", "fashion_mnist", "svhn"), "digits")
    >>> stream = Ctrl(DataRoot(Path("data")), kind="s_minus", stand_ins=stand_ins)
    >>> stream.n_tasks, stream.name_of(5)
    (6, 'digits, as task 0')
    """

    setting: Setting = option("task", "what is told at test time: task or domain (labels are local to the task)")
    kind: Kind = option("s_minus", "which of the six streams")
    stand_ins: dict[str, str] = option({}, "sources in the place of published ones: {svhn = 'digits', dtd = '…'}")
    shape: Shape = option([3, 32, 32], "channels, height and width of all inputs")
    large: tuple[Count, Count] = option(
        (400, 200), "training and validation rows of a class, of a task with plenty of data"
    )
    small: tuple[Count, Count] = option((40, 20), "the same, of an ordinary task")
    tiny: tuple[Count, Count] = option((5, 3), "the same, of a task with few data")
    long: tuple[Count, Count] = option((1000, 500), "the same, of the large tasks of s_long")
    test_samples_per_class: int = option(1000, "test rows of a class in a task, or all there are", ge=1)
    seed: int = option(0, "seed of the stream's own choices; the learners' seeds do not change the stream", ge=0)

    named_by = "stand_ins"

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return list(options["stand_ins"].values())

    def prepare(self) -> None:
        if self.setting == "class":
            raise UsageError("stream.setting: tasks of CTrL share classes; use 'task' or 'domain'")
        self._scales: dict[int, tuple[Tensor, Tensor]] = {}  # asked for with each half of a task's rows
        draw = rng.arrays(self.seed, "ctrl", self.kind)
        self.tasks = _tasks_of(self.kind, lambda name: self.class_count(self._named(name)), draw)[: self.n]
        self.n_tasks = self.n_steps = len(self.tasks)
        self.input_shape = tuple(self.shape)
        if self.input_shape[0] != 3 and any(task.colour for task in self.tasks):
            raise UsageError(f"stream.shape: S_in colours its images, which takes three channels, found {self.shape}")
        self.mean, self.std = (0.0,), (1.0,)  # inputs come scaled
        self.outputs = max(len(task.classes) for task in self.tasks)

    def task_id(self, step: int) -> int:
        self.check_step(step)
        return step

    def __getitem__(self, step: int) -> Experience:
        task = self.tasks[self.task_id(step)]
        train, validation = self._train_rows(step)
        return Experience(
            step=step,
            task_id=step,
            train=self._data(task, step, train, test=False),
            validation=self._data(task, step, validation, test=False),
            classes=len(task.classes),
        )

    def test(self, task_id: int) -> Data:
        task = self.tasks[task_id]
        arrays = self._arrays(task.source)
        rows = [np.flatnonzero(arrays.test_y == label)[: self.test_samples_per_class] for label in task.classes]
        return self._data(task, task_id, rows, test=True)

    def describe(self) -> dict[str, str | int]:
        found: dict[str, str | int] = {"benchmark": f"CTrL {self.kind}"}
        if self.stand_ins:
            found["stand-ins"] = ", ".join(f"{new} for {old}" for old, new in self.stand_ins.items())
        return found

    def name_of(self, task_id: int) -> str:
        task = self.tasks[task_id]
        again = f", as task {task.like}" if task.like is not None else ""
        colour = f", {('red', 'green', 'blue')[int(np.argmax(task.colour))]}" if task.colour else ""
        classes = f" {', '.join(map(str, task.classes))}" if self.kind == "s_long" else ""
        return f"{self._named(task.source)}{classes}{colour}{again}"

    def _named(self, source: str) -> str:
        return self.stand_ins.get(source, source)

    def _arrays(self, source: str) -> Arrays:
        return self.images(self._named(source))

    def _train_rows(self, step: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return training and validation rows of each label; the two are drawn from separate parts of a source."""
        task = self.tasks[step]
        arrays, draw = self._arrays(task.source), rng.arrays(self.seed, "ctrl rows", step)
        wanted, aside = self._numbers(task.size)
        train, validation = [], []
        for label in task.classes:
            rows = np.flatnonzero(arrays.train_y == label)
            divided = rng.arrays(self.seed, "ctrl aside", self._named(task.source), label).permutation(rows)
            cut = min(ASIDE.get(self._named(task.source), MOST_ASIDE), len(rows) // 3)
            train.append(draw.permutation(divided[cut:])[:wanted])
            validation.append(draw.permutation(divided[:cut])[:aside])
        return train, validation

    def _numbers(self, size: Size) -> tuple[int, int]:
        found: tuple[int, int] = getattr(self, size)
        return found

    def _data(self, task: _Task, step: int, rows: list[np.ndarray], *, test: bool) -> Data:
        arrays = self._arrays(task.source)
        mean, std = self._scaling(task, step)
        x = self._lit(task, (arrays.test_x if test else arrays.train_x)[np.concatenate(rows)])
        y = np.repeat(np.arange(len(rows)), [len(found) for found in rows]).astype(np.int64)
        return Data(((x - mean) / std).to(self.device), torch.from_numpy(y).to(self.device))

    def _scaling(self, task: _Task, step: int) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of each channel over the task's training rows, ``[C, 1, 1]``."""
        if step not in self._scales:
            x = self._lit(task, self._arrays(task.source).train_x[np.concatenate(self._train_rows(step)[0])])
            parts = x.transpose(0, 1).flatten(1)
            mean, std = parts.mean(dim=1), parts.std(dim=1).clamp_min(1e-6)
            self._scales[step] = mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)
        return self._scales[step]

    def _lit(self, task: _Task, x: np.ndarray) -> Tensor:
        """Return float32 images in the stream's shape, in the task's light."""
        images = to_shape(torch.from_numpy(x), self.input_shape).to(torch.float32)
        if task.colour is None:
            return images
        light = torch.tensor(task.colour, dtype=torch.float32).reshape(3, 1, 1) / 255
        return images + (255 - images) * light


def _tasks_of(kind: Kind, classes_in: Callable[[str], int], draw: np.random.Generator) -> list[_Task]:
    """Return the tasks of a stream; ``classes_in`` tells how many classes a source has."""
    if kind == "s_long":
        return [_long(step, classes_in, draw) for step in range(LONG_TASKS)]
    first, others, last = {
        "s_minus": (("cifar10", "large"), ("mnist", "dtd", "fashion_mnist", "svhn"), "small"),
        "s_plus": (("cifar10", "small"), ("mnist", "dtd", "fashion_mnist", "svhn"), "large"),
        "s_in": (("mnist", "large"), ("cifar10", "dtd", "fashion_mnist", "svhn"), "tiny"),
        "s_out": (("cifar10", "large"), ("mnist", "dtd", "fashion_mnist", "svhn"), "small"),
        "s_pl": (("mnist", "small"), ("dtd", "fashion_mnist", "svhn"), "large"),
    }[kind]
    source, size = first
    colours: list[tuple[int, int, int] | None] = [None, None]
    if kind == "s_in":
        colours = [COLOURS[k] for k in draw.permutation(len(COLOURS))[:2]]
    chosen = _classes(source, classes_in, CLASSES, draw)
    tasks = [_Task(source, size, chosen, colours[0])]  # type: ignore[arg-type]
    tasks += [_Task(other, "small", _classes(other, classes_in, CLASSES, draw)) for other in others]
    if kind == "s_pl":
        return [*tasks, _Task("cifar10", "large", _classes("cifar10", classes_in, CLASSES, draw))]
    again = (chosen[-1], *chosen[:-1]) if kind == "s_out" else chosen
    return [*tasks, _Task(source, last, again, colours[1], like=0)]  # type: ignore[arg-type]


def _long(step: int, classes_in: Callable[[str], int], draw: np.random.Generator) -> _Task:
    """Return a task of the long stream: large ones get rare after a third, and none are among the last third."""
    source = LONG_SOURCES[int(draw.integers(len(LONG_SOURCES)))]
    classes = tuple(int(c) for c in draw.permutation(classes_in(source))[:LONG_CLASSES])
    share = 0.5 if step < 33 else 0.25 if step < 66 else 0.0
    return _Task(source, "long" if draw.random() < share else "tiny", classes)


def _classes(source: str, classes_in: Callable[[str], int], count: int, draw: np.random.Generator) -> tuple[int, ...]:
    """Return ten classes: all in their own order where there are ten, else ``count`` of them, drawn."""
    known = classes_in(source)
    if known <= count:
        return tuple(range(known))
    return tuple(sorted(int(c) for c in draw.permutation(known)[:count]))
