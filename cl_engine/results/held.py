"""The part of a log that is read when it is opened: all that is small, and the shapes of what is large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.audit import member, text
from cl_engine.results.log_file import array, subgroup

# the large arrays, each with what stands where nothing is: counts where all measures are accuracy, otherwise sums
CELLS = {"n_correct": 0, "n_total": 0, "accuracy": np.nan, "score": np.nan, "sums": np.nan}
COUNTS, SUMS = ("n_correct", "n_total", "accuracy"), ("score", "sums")
CELL_AXES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(CELLS, ("evaluation", "task", "seed")),
    "sums": ("evaluation", "task", "seed", "sum"),
}
AXES: dict[str, tuple[str, ...]] = {
    "evaluation_step": ("evaluation",),
    **dict.fromkeys(SCORES, ("evaluation", "seed")),
    "memory": ("experience", "part"),
    "seconds": ("experience", "phase"),
    "experience_task": ("experience",),
    "task_name": ("task",),
}
NEWER = {"task_measure": "accuracy", "task_unit": "1", "task_direction": 1, "task_guess": np.nan, "task_free": 0}
KNOWN = {**AXES, **CELL_AXES, **dict.fromkeys(NEWER, ("task",)), "sum": ("sum",)}
DIMENSIONS = ("evaluation", "experience", "task", "seed", "part", "phase")


@dataclass(frozen=True)
class Held:
    """The part of a log that is read when it is opened.

    >>> Held(small={}, large={}, environment={"python": "3.12"}, rows={"epochs": 4}).rows
    {'epochs': 4}

    Attributes:
        small: the small arrays of ``results``: dimensions, data, attributes.
        large: shape and type of the others, dimensions, and attributes.
        environment: texts.
        rows: the tables and their lengths.
    """

    small: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]
    large: dict[str, tuple[tuple[str, ...], tuple[int, ...], np.dtype[Any], dict[str, Any]]]
    environment: dict[str, str]
    rows: dict[str, int]


def held_of(log: h5py.File) -> Held:
    """Read what is small of a log that was audited.

    Raises:
        UsageError: if its parts do not fit each other.
    """
    results = subgroup(log, "results")
    small, large = {}, {}
    cells = COUNTS if "n_correct" in results or "score" not in results else SUMS
    for name in (*DIMENSIONS, *AXES, *cells, *(set(results) - set(DIMENSIONS) - set(AXES) - set(cells))):
        data = member(results, name)
        if isinstance(data, h5py.Group):  # scores on validation rows are read when they are asked for
            continue
        axes = (name,) if name in DIMENSIONS else KNOWN.get(name) or tuple(_axis(dim) for dim in data.dims)
        if len(axes) != data.ndim:
            raise UsageError(f"{log.filename} is damaged: results/{name} has {data.ndim} axes, not {len(axes)}")
        said = {key: text(data.attrs, key) for key in ("units", "long_name") if key in data.attrs}
        about = {key: value for key, value in said.items() if value is not None}
        if name in CELLS:
            large[name] = (axes, data.shape, data.dtype, about)
        else:
            small[name] = (axes, array(results, name), about)
    arrivals = small["experience_task"][1]
    tasks = len(small["task"][1]) + len(arrivals)  # those learned and not tested have a number and no place
    if not np.issubdtype(arrivals.dtype, np.integer) or ((arrivals < 0) | (arrivals >= tasks)).any():
        raise UsageError(f"{log.filename} is damaged: an experience is of a task that is none of its {tasks}")
    environment = subgroup(log, "environment")
    texts = {name: str(array(environment, name)) for name in environment}
    rows = {}
    for name in log:
        group = member(log, name)
        if not isinstance(group, h5py.Group) or "row" not in group:
            continue
        row = member(group, "row")
        if not isinstance(row, h5py.Dataset) or row.ndim != 1:
            raise UsageError(f"{log.filename} is damaged: {name}/row is no list of numbers")
        rows[name] = len(row)
    return Held(small, large, texts, rows)


def _axis(dim: Any) -> str:
    """Return the name of a dimension of an array that this version does not know."""
    return str(dim[0].name).rpartition("/")[2] if len(dim) else "?"
