"""Scores on validation rows as a log holds them: what settings are chosen by, so that test rows take no part in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cl_engine.errors import UsageError
from cl_engine.results.audit import member
from cl_engine.results.log_file import array, opened, subgroup

if TYPE_CHECKING:
    import xarray as xr

GROUP = "validation"  # within the group of results
VALIDATED = ("acc", "bwt", "forgetting")
CELLS = {"score": np.nan, "accuracy": np.nan, "n_correct": 0, "n_total": 0, "sums": np.nan}


def validation_of(path: Path, results: xr.Dataset) -> xr.Dataset | None:
    """Return the scores on validation rows that a log holds, cut to the sizes of its ``results``; None where there are none.

    Raises:
        UsageError: if its arrays do not fit those of the results.
    """
    import xarray as xr  # 1 s to import: only when used

    sizes = results.sizes
    with opened(path) as file:
        group = group_of(subgroup(file, "results"))
        if group is None:
            return None
        data = {}
        for name in (*VALIDATED, *(name for name in CELLS if name in group)):
            axes = ("evaluation", "seed") if name in VALIDATED else ("evaluation", "task", "seed")
            values, fill = array(group, name), CELLS.get(name, np.nan)
            more = values.shape[len(axes) :]
            shape = tuple(sizes[axis] for axis in axes)
            if values.ndim != len(axes) + (name == "sums") or values.shape[len(axes) - 1] != sizes["seed"]:
                raise UsageError(f"{path} is damaged: results/{GROUP}/{name} does not fit the results")
            held = np.full((*shape, *more), fill, dtype=values.dtype)
            part = tuple(slice(min(now, then)) for now, then in zip(values.shape, shape, strict=False))
            held[part] = values[part]
            data[name] = ((*axes, "sum") if name == "sums" else axes, held)
    if "score" not in data:
        raise UsageError(f"{path} is damaged: results/{GROUP} has no scores")
    found: Any = xr.Dataset(data, {axis: results[axis] for axis in ("evaluation", "task", "seed")})
    labelled: xr.Dataset = found.assign(evaluation_step=results["evaluation_step"])
    return labelled


def group_of(results: h5py.Group) -> h5py.Group | None:
    """Return the group of scores on validation rows within the results of a log; None where there is none."""
    found = member(results, GROUP) if GROUP in results else None
    return found if isinstance(found, h5py.Group) else None
