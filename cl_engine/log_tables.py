"""The pieces a log is made of: flat tables, and the labelled arrays of the group ``results``.

HDF5 as netCDF-4 and NeXus readers expect it: dimension scales, ``units`` and ``long_name`` on everything, and only
integers, floats and UTF-8 strings, compressed with gzip alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import h5py
import numpy as np

from cl_engine import events
from cl_engine.stream import Stream

string = h5py.string_dtype()
SMALL = {"compression": "gzip", "compression_opts": 4, "shuffle": True}  # a chunk that is hardly filled takes no room
NUMBERS = {**SMALL, "fletcher32": True}
SCORES = {
    "acc": "average accuracy over the tasks met so far (Lopez-Paz & Ranzato 2017)",
    "bwt": "backward transfer (Lopez-Paz & Ranzato 2017)",
    "fwt": "forward transfer (Lopez-Paz & Ranzato 2017)",
    "forgetting": "forgetting (Chaudhry et al. 2018)",
}
CELLS = ("n_correct", "n_total", "accuracy")
Cell = tuple[int, ...]  # rows tested, and right answers of each seed
Scores = dict[str, tuple[float, ...]]
OVER = {  # of the results: the arrays over a dimension, and which of their axes it is
    "evaluation": {"evaluation_step": 0, **dict.fromkeys((*CELLS, *SCORES), 0)},
    "experience": {"experience_task": 0, "memory": 0, "seconds": 0},
    "task": {"task_name": 0, **dict.fromkeys(CELLS, 1)},
    "part": {"memory": 1},
}


@dataclass(frozen=True)
class Column:
    """A column of a table: name, type (``str`` or a NumPy type), unit, meaning."""

    name: str
    kind: str
    unit: str
    meaning: str


class Table:
    """Rows that are only ever added: a group with one dataset a column and one dimension, ``row``."""

    def __init__(self, name: str, columns: Sequence[Column]) -> None:
        self.name, self.columns = name, columns
        self._over = {column.name: 0 for column in columns}
        self.rows: list[tuple[object, ...]] = []

    def create(self, file: h5py.File) -> None:
        """Create the empty table."""
        group = file.create_group(self.name)
        row = scale(group, "row", "i8", "number of the row", 0)
        for column in self.columns:
            variable(group, column.name, column.kind, column.unit, column.meaning, (row,), (4096,))

    def flush(self, file: h5py.File) -> None:
        """Append the rows kept so far to the file."""
        if not self.rows:
            return
        group = file[self.name]
        held = len(group["row"])
        grow(group, "row", held + len(self.rows), self._over)
        for column, values in zip(self.columns, zip(*self.rows, strict=True), strict=True):
            group[column.name][held:] = list(values) if column.kind == "str" else np.asarray(values, column.kind)
        self.rows.clear()

    def truncate(self, file: h5py.File, step: int) -> None:
        """Drop the rows of experiences after ``step``."""
        group = file[self.name]
        grow(group, "row", int(np.count_nonzero(group["step"][:] <= step)), self._over)


class Matrix:
    """What the group ``results`` takes in between two flushes."""

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.cells = 0
        self._named = 0
        self._rows: dict[int, dict[int, Cell]] = {}
        self._scored: list[tuple[int, int, Scores]] = []  # evaluation, step
        self._memory: list[tuple[int, int, dict[str, int]]] = []  # step, task, bytes by part
        self._seconds: list[tuple[int, str, float]] = []  # step, phase

    @staticmethod
    def create(group: h5py.Group, seeds: Sequence[int], phases: Sequence[str], tasks: int | None) -> None:
        """Create the empty arrays, with the dimensions known so far."""
        group.attrs.update({"NX_class": "NXdata", "signal": "accuracy"})
        group.attrs.create("axes", ["evaluation", "task", "seed"], dtype=string)
        evaluation = scale(group, "evaluation", "i4", "row of R", 0)
        experience = scale(group, "experience", "i4", "experience: one arrival in the stream", 0)
        task = scale(group, "task", "i4", "task", 0)
        seed = scale(group, "seed", "i8", "seed of the learner", len(seeds))
        seed[:] = seeds
        part = scale(group, "part", "str", "part of the learner's state", 0)
        phase = scale(group, "phase", "str", "phase of the run", len(phases))
        phase[:] = list(phases)
        step = variable(
            group, "evaluation_step", "i4", "1", "experience learned last; -1: untrained", (evaluation,), (1024,)
        )
        step.attrs["flag_untrained"] = np.int32(-1)
        variable(group, "experience_task", "i4", "1", "task of the experience", (experience,), (1024,))
        variable(group, "task_name", "str", "1", "name of the task", (task,), (1024,))
        wide = min(tasks or 256, 1024)
        chunk = (max(1, min(64, 8192 // (wide * len(seeds)))), wide, len(seeds))
        axes = (evaluation, task, seed)
        variable(group, "n_correct", "i4", "1", "test rows answered correctly", axes, chunk)
        variable(group, "n_total", "i4", "1", "test rows; 0: not measured", axes, chunk)
        variable(group, "accuracy", "f4", "1", "R: accuracy on the task; NaN: not measured", axes, chunk)
        for name, meaning in SCORES.items():
            variable(group, name, "f8", "1", meaning, (evaluation, seed), (1024, len(seeds)))
        variable(group, "memory", "i8", "byte", "bytes one seed holds", (experience, part), (1024, 8))
        variable(
            group, "seconds", "f8", "s", "time spent, all seeds together", (experience, phase), (1024, len(phases))
        )
        grow(group, "task", tasks or 0)

    def cell(self, event: events.Evaluated) -> None:
        """Take in a cell of R."""
        self._rows.setdefault(event.evaluation, {})[event.task_id] = (event.n_total, *event.n_correct)
        self.cells += 1

    def scored(self, event: events.Scored) -> None:
        """Take in the scores of a row."""
        self._scored.append((event.evaluation, event.step, {name: getattr(event, name) for name in SCORES}))
        self.seconds(event.step, "evaluate", event.seconds)

    def learned(self, event: events.TaskLearned) -> None:
        """Take in an experience's memory and duration."""
        self._memory.append((event.step, event.task_id, dict(event.memory)))
        self.seconds(event.step, "learn", event.seconds)

    def seconds(self, step: int, phase: str, seconds: float) -> None:
        """Take in the time that a phase of an experience took (that of the untrained learner is not kept)."""
        if step >= 0:
            self._seconds.append((step, phase, seconds))

    def flush(self, group: h5py.Group, stream: Stream) -> None:
        """Write all that was taken in."""
        if self._scored:
            grow(group, "evaluation", max(len(group["evaluation"]), *(number + 1 for number, *_ in self._scored)))
        for number, step, scores in self._scored:
            group["evaluation_step"][number] = step
            for name in SCORES:
                group[name][number] = scores[name]
        for number, row in self._rows.items():
            grow(group, "evaluation", max(len(group["evaluation"]), number + 1))
            grow(group, "task", max(len(group["task"]), max(row) + 1))
            self._write_row(group, number, row)
        self._name_tasks(group, stream)
        for memory in self._memory:
            self._write_memory(group, *memory)
        phases = [name.decode() for name in group["phase"][:]]
        for step, phase, seconds in self._seconds:
            grow(group, "experience", max(len(group["experience"]), step + 1))
            group["seconds"][step, phases.index(phase)] = seconds
        for held in (self._rows, self._scored, self._memory, self._seconds):
            held.clear()
        self.cells = 0

    def pending(self) -> tuple[dict[str, Any], np.ndarray]:
        """Return what was taken in since the last flush: lists for JSON, and a row a cell ``[n, 3 + S]``."""
        cells = [(number, task, *cell) for number, row in self._rows.items() for task, cell in row.items()]
        lists = {"scored": self._scored, "memory": self._memory, "seconds": self._seconds}
        return lists, np.array(cells, dtype=np.int64).reshape(len(cells), 3 + self.seeds)

    def take_up(self, lists: dict[str, Any], cells: np.ndarray) -> None:
        """Take in again what `pending` returned."""
        for number, task, *cell in cells.tolist():
            self._rows.setdefault(number, {})[task] = tuple(cell)
        self.cells += len(cells)
        self._scored += lists["scored"]
        self._memory += lists["memory"]
        self._seconds += lists["seconds"]

    def _write_row(self, group: h5py.Group, number: int, row: dict[int, Cell]) -> None:
        tasks = sorted(row)
        breaks = [0, *(k for k in range(1, len(tasks)) if tasks[k] != tasks[k - 1] + 1), len(tasks)]
        for start, end in pairwise(breaks):
            cells = [row[task] for task in tasks[start:end]]
            correct = np.array([right for _, *right in cells], dtype="i4")
            total = np.repeat(np.array([[total] for total, *_ in cells], dtype="i4"), self.seeds, axis=1)
            total[correct == events.NOT_MEASURED] = 0
            correct[correct == events.NOT_MEASURED] = 0
            with np.errstate(invalid="ignore"):
                accuracy = (correct / total).astype("f4")
            for name, values in zip(CELLS, (correct, total, accuracy), strict=True):
                group[name][number, tasks[start] : tasks[end - 1] + 1] = values

    def _name_tasks(self, group: h5py.Group, stream: Stream) -> None:
        names = group["task_name"]
        if len(names) > self._named:
            names[self._named :] = [stream.name_of(task) for task in range(self._named, len(names))]
            self._named = len(names)

    @staticmethod
    def _write_memory(group: h5py.Group, step: int, task: int, memory: dict[str, int]) -> None:
        grow(group, "experience", max(len(group["experience"]), step + 1))
        group["experience_task"][step] = task
        parts = [name.decode() for name in group["part"][:]]
        new = [name for name in memory if name not in parts]
        if new:
            grow(group, "part", len(parts) + len(new))
            group["part"][len(parts) :] = new
            parts += new
        group["memory"][step] = [memory.get(name, 0) for name in parts]


def scale(group: h5py.Group, name: str, kind: str, meaning: str, length: int) -> h5py.Dataset:
    """Create a dimension with its coordinate: numbers from 0, unless values are written to it."""
    dataset = group.create_dataset(name, (length,), dtype=_dtype(kind), maxshape=(None,), chunks=(1024,), **SMALL)
    if kind != "str":
        dataset[:] = np.arange(length)
    dataset.make_scale(name)
    return describe(dataset, "1", meaning)


def variable(
    group: h5py.Group,
    name: str,
    kind: str,
    unit: str,
    meaning: str,
    axes: Sequence[h5py.Dataset],
    chunks: tuple[int, ...],
) -> h5py.Dataset:
    """Create a growing array over dimensions; floats are NaN and integers 0 where nothing was written."""
    extra: dict[str, Any] = dict(SMALL if kind == "str" else NUMBERS)
    if kind.startswith("f"):
        extra["fillvalue"] = np.nan
    shape = tuple(len(axis) for axis in axes)
    dataset = group.create_dataset(
        name, shape, dtype=_dtype(kind), maxshape=(None,) * len(axes), chunks=chunks, **extra
    )
    for position, axis in enumerate(axes):
        dataset.dims[position].attach_scale(axis)
    return describe(dataset, unit, meaning)


def describe(dataset: h5py.Dataset, unit: str, meaning: str) -> h5py.Dataset:
    """Attach unit and meaning."""
    dataset.attrs["units"], dataset.attrs["long_name"] = unit, meaning
    return dataset


def grow(group: h5py.Group, dimension: str, length: int, over: Mapping[str, int] | None = None) -> None:
    """Give a dimension of a group this length, in its coordinate and in all arrays over it; it may shrink.

    ``over`` names the arrays and which of their axes it is, as asking the file takes longer than all else; left out: those
    of the results.
    """
    axis = group[dimension]
    held = len(axis)
    if held == length:
        return
    axis.resize(length, axis=0)
    if length > held and axis.dtype.kind == "i":
        axis[held:] = np.arange(held, length)
    for name, position in (OVER[dimension] if over is None else over).items():
        group[name].resize(length, axis=position)


def _dtype(kind: str) -> Any:
    return string if kind == "str" else np.dtype(kind)
