"""The parts of a log: flat tables, and labelled arrays over dimensions that grow.

HDF5 as netCDF-4 and NeXus readers expect it: dimension scales, ``units`` and ``long_name`` on everything, and only
integers, floats and UTF-8 strings, compressed with gzip alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from cl_engine.core.text import encodable
from cl_engine.metrics.catalogue import SCORES

string = h5py.string_dtype()
SMALL = {"compression": "gzip", "compression_opts": 4, "shuffle": True}  # a chunk that is hardly filled takes no room
NUMBERS = {**SMALL, "fletcher32": True}
COUNTS = ("n_correct", "n_total", "accuracy")  # the cells where all measures are accuracy
CELLS = ("score", "sums")  # where they are not
VALIDATION = "validation"  # the group within the results
VALIDATED = ("acc", "bwt", "forgetting")  # the scores in it
APART = "memory_apart"
OF_TASKS = ("task_name", "task_measure", "task_unit", "task_direction", "task_target", "task_guess", "task_free")


def over(cells: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return for each dimension of the results the arrays over it, and which of their axes it is."""
    return {
        "evaluation": {"evaluation_step": 0, **dict.fromkeys((*cells, *SCORES), 0)},
        "experience": {"experience_task": 0, "memory": 0, APART: 0, "seconds": 0},
        "task": {**dict.fromkeys(OF_TASKS, 0), **dict.fromkeys(cells, 1)},
        "part": {"memory": 1, APART: 1},
    }


OVER = {True: over(COUNTS), False: over(CELLS)}  # by whether all measures are accuracy
OVER_VALIDATION = {
    counted: {
        "evaluation": {f"{VALIDATION}/{name}": 0 for name in (*cells, *VALIDATED)},
        "task": {f"{VALIDATION}/{name}": 1 for name in cells},
    }
    for counted, cells in ((True, COUNTS), (False, CELLS))
}


@dataclass(frozen=True)
class Column:
    """A column of a table: name, type (``str`` or a NumPy type), unit, meaning.

    >>> Column("loss", "f8", "1", "mean loss of an epoch").unit
    '1'
    """

    name: str
    kind: str
    unit: str
    meaning: str


class Table:
    """Rows that are only ever added: a group with one dataset a column and one dimension, ``row``.

    One that is ``optional`` is created when it gets its first row.

    >>> table = Table("epochs", [Column("step", "i8", "1", "experience")])
    >>> table.rows.append((0,))
    >>> table.taken()
    [(0,)]
    """

    def __init__(self, name: str, columns: Sequence[Column], optional: bool = False) -> None:
        self.name, self.columns, self.optional = name, columns, optional
        self._over = {column.name: 0 for column in columns}
        self.rows: list[tuple[object, ...]] = []

    def create(self, file: h5py.File) -> None:
        """Create the empty table."""
        group = file.create_group(self.name)
        row = scale(group, "row", "i8", "number of the row", 0)
        for column in self.columns:
            variable(group, column.name, column.kind, column.unit, column.meaning, (row,), (4096,))

    def taken(self) -> list[tuple[object, ...]]:
        """Return the rows kept so far, and keep them no longer."""
        rows, self.rows = self.rows, []
        return rows

    def flush(self, file: h5py.File) -> None:
        """Append the rows kept so far to the file."""
        if not self.rows:
            return
        if self.name not in file:
            self.create(file)
        group = file[self.name]
        held = len(group["row"])
        append(group, "row", held, np.arange(held, held + len(self.rows)))
        for column, values in zip(self.columns, zip(*self.rows, strict=True), strict=True):
            text = column.kind == "str"
            new = np.array(list(map(encodable, values)), string) if text else np.asarray(values, column.kind)
            append(group, column.name, held, new)
        self.rows.clear()

    def complete(self, file: h5py.File) -> bool:
        """Create the columns that the table of an older log lacks, and return whether there were any."""
        group = file[self.name]
        missing = [column for column in self.columns if column.name not in group]
        for column in missing:
            variable(group, column.name, column.kind, column.unit, column.meaning, (group["row"],), (4096,))
        return bool(missing)

    def truncate(self, file: h5py.File, step: int) -> None:
        """Drop the rows since the first of an experience after ``step``; a table without any left that is optional goes too."""
        if self.name not in file:
            return
        group = file[self.name]
        later = np.flatnonzero(group["step"][:] > step)  # tests of the untrained learner, step −1, may stand behind it
        kept = int(later[0]) if len(later) else len(group["step"])
        if self.optional and not kept:
            del file[self.name]
            return
        grow(group, "row", kept, self._over)


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


def grow(group: h5py.Group, dimension: str, length: int, over: dict[str, int] | None = None) -> None:
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
    if over is None:
        counted = "n_correct" in group
        over = OVER[counted][dimension]
        if VALIDATION in group:
            over = over | OVER_VALIDATION[counted].get(dimension, {})
    for name, position in over.items():
        group[name].resize(length, axis=position)


def append(group: h5py.Group, name: str, held: int, values: np.ndarray) -> None:
    """Put numbers or texts ``[n]`` behind the ``held`` that an array of one axis has.

    It does what ``group[name].resize`` and an assignment do, in a third of the time: logs have many columns of few rows.
    """
    array, count = h5py.h5d.open(group.id, name.encode()), len(values)
    array.set_extent((held + count,))
    place = array.get_space()
    place.select_hyperslab((held,), (count,))
    kind = h5py.h5t.py_create(values.dtype)
    array.write(h5py.h5s.create_simple((count,)), place, np.ascontiguousarray(values), kind)


def _dtype(kind: str) -> Any:
    return string if kind == "str" else np.dtype(kind)
