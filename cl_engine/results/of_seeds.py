"""Runs that differ in seeds alone, put together: seeds spread over runs are one method wherever runs are looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cl_engine.errors import UsageError
from cl_engine.results.held import CELLS
from cl_engine.results.joined_rows import Columns, NotAlike, joined_outcomes, joined_rows, of_all
from cl_engine.results.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

OF_ALL = ("memory", "memory_apart", "task_guess")  # a seed's own, or the mean over seeds


class RunOfSeeds(Run):
    """Runs that differ in seeds alone, as if one run had had all of them: all that is said of runs can be said of it.

    What is of all seeds together, as seconds, is added up. Its path, attributes and environment are those of the first.

    >>> issubclass(RunOfSeeds, Run)
    True

    Attributes:
        of: the runs.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        """Put runs together that `alike` says are alike, whose seeds are different ones."""
        first = runs[0]
        self.of = tuple(runs)
        self._seeds = [_seeds(run) for run in runs]
        self._order = sorted(seed for own in self._seeds for seed in own)
        told = json.dumps({**first.experiment, "seeds": self._order}, sort_keys=True, indent=1)
        rows = {name: sum(run.tables.get(name, 0) for run in runs) for name in first.tables}
        held = replace(first._held, environment={**first.environment, "experiment": told}, rows=rows)
        updated = max(run.attributes.get("updated", "") for run in runs)
        super().__init__(first.path, {**first.attributes, "updated": updated}, held)

    @property
    def logs(self) -> list[Path]:
        return [run.path for run in self.of]

    @cached_property
    def results(self) -> xr.Dataset:
        import xarray as xr

        from cl_engine.results.lazy_arrays import ManyRuns, OfSeeds, Place, lazily

        parts = [run.results for run in self.of]
        columns = [[self._order.index(seed) for seed in own] for own in self._seeds]
        flat = np.argsort([place for own in columns for place in own])
        found: dict[str, Any] = {}
        for key, array in parts[0].variables.items():
            name = str(key)
            if name in CELLS and name in self.of[0]._held.large:
                places = [
                    Place(run.path, run.attributes["run_id"], name, run._held.large[name][1], CELLS[name])
                    for run in self.of
                ]
                axis = array.dims.index("seed")
                shape = tuple(len(self._order) if k == axis else size for k, size in enumerate(array.shape))
                joined = ManyRuns(places, shape, np.dtype(array.dtype), columns, axis)
                found[name] = xr.Variable(array.dims, lazily(OfSeeds(joined)), array.attrs)
            elif name == "score":  # in logs of before format 2.0, another name of the accuracy
                continue
            elif "seed" in array.dims:
                values = np.concatenate([part[name].values for part in parts], axis=array.dims.index("seed"))
                found[name] = xr.Variable(array.dims, values.take(flat, axis=array.dims.index("seed")), array.attrs)
            elif name == "seconds":
                spent = np.stack([part[name].values for part in parts])
                nothing = np.isnan(spent).all(axis=0)
                found[name] = xr.Variable(array.dims, np.where(nothing, np.nan, np.nansum(spent, axis=0)), array.attrs)
            elif name in OF_ALL:
                values = of_all([part[name].values for part in parts], [len(own) for own in self._seeds])
                found[name] = xr.Variable(array.dims, values, array.attrs)
            else:
                found[name] = array
        found.setdefault("score", found.get("accuracy"))
        return xr.Dataset(found)

    @cached_property
    def validation(self) -> xr.Dataset | None:
        import xarray as xr

        parts = [run.validation for run in self.of if run.validation is not None]
        if len(parts) < len(self.of):
            return None
        whole: xr.Dataset = xr.concat(parts, "seed", data_vars="minimal", coords="minimal", compat="override")
        return whole.sel(seed=self._order)

    def table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        tables = [run.table(name) for run in self.of]
        common = [key for key in tables[0] if all(key in table for table in tables)]
        parts = [_columns(table[common]) for table in tables]
        try:
            if name == "outcomes":
                transfers = [_columns(run.table("transfers")) for run in self.of]
                return pd.DataFrame(joined_outcomes(transfers, parts, self._seeds, self._order))
            return pd.DataFrame(joined_rows(name, parts, self._seeds, self._order))
        except NotAlike:  # as where a seed ends a fit before others do: its rows as they are, experience by experience
            before = 0
            for number, table in enumerate(tables if "event" in common else []):
                tables[number] = table.assign(event=table["event"] + before)
                before += int(table["event"].max()) + 1 if len(table) else 0
            whole = pd.concat([table[common] for table in tables], ignore_index=True)
            return whole.sort_values("step", kind="stable", ignore_index=True)


def of_seeds(runs: Sequence[Run]) -> list[Run]:
    """Return runs, those that differ in seeds alone as one, in the place of the first of them.

    Put together are runs of the same experiment over the same data that have got equally far, with different seeds; one
    whose seeds others have stays a run of its own.
    """
    groups: list[list[Run]] = []
    places: dict[str, list[int]] = {}
    for run in runs:
        known = places.setdefault(_alike(run), [])
        place = next((place for place in known if _fits(run, groups[place])), None)
        if place is None:
            known.append(len(groups))
            groups.append([run])
        else:
            groups[place].append(run)
    return [group[0] if len(group) == 1 else RunOfSeeds(group) for group in groups]


def _alike(run: Run) -> str:
    """Return what runs have in common that differ in seeds alone, as text."""
    try:
        said = {name: value for name, value in run.experiment.items() if name != "seeds"}
    except UsageError:  # whoever looks at the run will say so
        return str(run.path)
    data = [run.environment.get(name) for name in ("digests", "code")]
    return json.dumps([run.scenario, run.strategy, run.status, said, data], sort_keys=True)


def _fits(run: Run, group: Sequence[Run]) -> bool:
    """Return whether a run has other seeds than a group of runs and has got as far, task by task."""
    own, first = run.results, group[0].results
    if {*_seeds(run)} & {seed for other in group for seed in _seeds(other)}:
        return False
    return own.sizes["task"] == first.sizes["task"] and all(
        np.array_equal(own[name].values, first[name].values)
        for name in ("evaluation_step", "experience_task", "task_name", "part", "phase")
    )


def _seeds(run: Run) -> list[int]:
    return [int(seed) for seed in run.results["seed"].values]


def _columns(table: pd.DataFrame) -> Columns:
    return {str(name): table[name].to_numpy() for name in table}
