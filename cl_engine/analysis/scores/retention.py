"""How long a task is kept: scores by the experiences since it was learned, from whatever cells of R were measured."""

from __future__ import annotations

import warnings

import numpy as np

from cl_engine.results.kept import kept_with_run
from cl_engine.results.run import Run

Array = np.ndarray
ROWS_AT_ONCE = 64
MOST_AGES = 200  # of more, those are taken that are evenly spread among them


@kept_with_run
def retained(run: Run) -> tuple[Array, Array]:
    """Return ages ``[A]`` and scores ``[A, S]``: the mean over tasks of R[e, j] an age after the step that learned j.

    A task that comes back is counted until then. Cells that were not tested take no part, so that a window of past tasks
    (``agenda.window``), or a sample of them, is enough. Ages at which fewer tasks were tested are means over those.
    """
    steps, first = run.results["evaluation_step"].values, run.learned
    order = run.results["experience_task"].values
    again = np.full(len(first), np.iinfo(np.int64).max)  # the step at which a task came back
    for step, task in reversed(list(enumerate(order))):
        if task < len(first) and step > first[task]:
            again[task] = step
    ages = np.unique(np.linspace(0, max(len(order) - 1, 0), MOST_AGES).round().astype(int))
    seeds = run.results.sizes["seed"]
    sums, counts = np.zeros((len(ages), seeds)), np.zeros((len(ages), seeds))
    for start in range(0, len(steps), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        block = np.asarray(run.results["score"][rows].values, dtype=float)
        since = steps[rows, None] - first[None, :]
        known = (first >= 0) & (since >= 0) & (steps[rows, None] < again)
        place = np.searchsorted(ages, since)
        known &= (place < len(ages)) & (ages[np.minimum(place, len(ages) - 1)] == since)
        cells = np.where(known[..., None], block, np.nan)
        there = np.isfinite(cells)
        np.add.at(sums, place[known], np.where(there, cells, 0.0)[known])
        np.add.at(counts, place[known], there[known].astype(float))
    kept = counts.any(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # seeds that were stopped have no number
        return ages[kept], (sums / counts)[kept]
