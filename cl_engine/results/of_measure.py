"""Runs whose tasks are measured by different things, taken apart: scores of one measure are never averaged with others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cl_engine.core.measure import Measure
from cl_engine.metrics.running import walked
from cl_engine.results.run import Run
from cl_engine.results.validation import VALIDATED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

OF_TASKS = ("curves", "stability", "online", "metrics", "metric_sums")  # tables with scores of tasks


class RunOfMeasure(Run):
    """A run as if its stream had the tasks of one measure alone: all that is said of runs can be said of it.

    Its scenario is called by the measure too. Experiences are those of the whole run; to those of other tasks no column of R
    belongs. ACC, BWT, FWT and forgetting are computed from R, by the measure's direction.

    >>> issubclass(RunOfMeasure, Run)
    True

    Attributes:
        whole: the run itself.
        measure: the measure.
    """

    def __init__(self, whole: Run, measure: Measure) -> None:
        self.whole, self.measure = whole, measure
        named = {**whole.attributes, "scenario": f"{whole.attributes['scenario']}: {measure.title}"}
        super().__init__(whole.path, named, whole._held)

    @cached_property
    def _own(self) -> np.ndarray:
        """Numbers of the tasks of this measure."""
        return np.flatnonzero([found == self.measure for found in self.whole.task_measures])

    def _renumbered(self, tasks: np.ndarray, others: int) -> np.ndarray:
        """Return the places of tasks among those of this measure, and ``others`` for all that are not."""
        places = np.full(max(int(tasks.max(initial=-1)), int(self._own.max(initial=-1))) + 1, others)
        places[self._own] = np.arange(len(self._own))
        found: np.ndarray = places[tasks]
        return found

    @cached_property
    def results(self) -> xr.Dataset:
        found = self.whole.results.isel(task=self._own)
        tasks = found["experience_task"].values
        rows = zip(found["evaluation_step"].values.tolist(), found["score"].values, strict=True)
        scores = walked(found.sizes["seed"], self._renumbered(tasks, -1), rows, lambda task: self.measure)
        behind = self._renumbered(tasks, len(self._own))  # as tasks that were learned and never tested
        found = found.assign(experience_task=("experience", behind))
        return found.assign({name: (("evaluation", "seed"), values) for name, values in scores.items()})

    @cached_property
    def validation(self) -> xr.Dataset | None:
        found = self.whole.validation
        if found is None:
            return None
        found = found.isel(task=self._own)
        tasks = self._renumbered(self.whole.results["experience_task"].values, -1)
        rows = zip(found["evaluation_step"].values.tolist(), found["score"].values, strict=True)
        scores = walked(found.sizes["seed"], tasks, rows, lambda task: self.measure)
        return found.assign({name: (("evaluation", "seed"), scores[name]) for name in VALIDATED})

    def table(self, name: str) -> pd.DataFrame:
        table = self.whole.table(name)
        if name not in OF_TASKS:
            return table
        table = table[table["task"].isin(self._own)]  # what is of the whole run has task −1, and is of no part
        return table.assign(task=self._renumbered(table["task"].to_numpy(), len(self._own)))


def by_measure(runs: Sequence[Run]) -> list[Run]:
    """Return runs, those of several measures as one for each of them."""
    return [part for run in runs for part in taken_apart(run)]


def taken_apart(run: Run) -> list[Run]:
    """Return a run of several measures as one for each of them, always the same ones; any other as it is."""
    if len(run.measures) < 2:
        return [run]
    run.parts = run.parts or [RunOfMeasure(run, measure) for measure in run.measures]
    return run.parts


def of_each_measure(runs: Sequence[Run]) -> dict[Measure, list[Run]]:
    """Return runs by what they are measured by, in the order in which measures come first; of several ones, its parts."""
    found: dict[Measure, list[Run]] = {}
    for part in by_measure(runs):
        found.setdefault(part.measures[0], []).append(part)
    return found
