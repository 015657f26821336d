"""Pictures with a task along each side: scores, and which task helped which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of
from cl_engine.analysis.plots.axes import averaged, heat_map, numbered, seeds, side
from cl_engine.analysis.plots.panels import ACCURACY, spread
from cl_engine.analysis.plots.style import BLANK, figure, plain, styled, titled
from cl_engine.results.run import Run

MOST_BESIDE, SMALL = 20, 50  # matrices side by side, and cells along a side of each
MANY_ROWS = 60  # with more rows than this, those that tested only a task or two are left out of the matrix


@styled
def matrix(run: Run) -> Figure:
    """Return the matrix of scores R as a heat map, the mean over seeds; grey where nothing was measured.

    Bright is good: where less is better, the colours are turned. Of several measures each has a scale of its own, from 0
    to 1 of shares, else from the worst score in R to the best, and each task says what it is measured by. Of many
    rows of which most are tests of a task or two, those that tested all tasks met are shown, and it says so. Of more
    than 160 tasks the means of neighbours are shown, and it says that too.
    """
    shown = rows_to_show(run)
    values = run.results["score"].isel(evaluation=shown).mean("seed").values
    several = len(run.measures) > 1
    fig, axes = figure(side(values.shape[1]) + 1.5, _height(len(values)) + several)
    if several:
        share = shares(run, values)
        said = [heat_map(fig, axes, share, 0, 1, "score, on the scale of its measure", cells=values)]
    else:
        measure = run.measures[0]
        low, high = spread(measure, values)
        form = {"written": ".2f"} if (low, high) == (0, 1) else {"cells": values}
        colours = "viridis" if measure.higher else "viridis_r"
        said = [heat_map(fig, axes, values, low, high, measure.title, colours, **form)]
    if len(shown) < run.results.sizes["evaluation"]:
        said.insert(0, f"{len(shown)} of {run.results.sizes['evaluation']} rows: tests of all tasks met")
    _label(run, axes, run.results["evaluation_step"].values[shown], "after experience", said)
    titled(fig, axes, run.strategy, f"{'scores' if several else run.measures[0].title}, {seeds([run])}")
    return fig


@styled
def matrices(runs: Sequence[Run]) -> Figure | None:
    """Return R of several runs side by side on one scale, the mean over seeds; None where they are of different measures.

    Of more than 20 runs the first are shown, of more than 50 tasks the means of neighbours.
    """
    measures = {measure for run in runs for measure in run.measures}
    if len(measures) > 1:
        return None
    (measure,) = measures
    names = names_of(runs)[:MOST_BESIDE]
    values = [run.results["score"].isel(evaluation=rows_to_show(run)).mean("seed").values for run in runs[:MOST_BESIDE]]
    known = np.array([end for each in values for end in (np.nanmin(each), np.nanmax(each))])
    columns = min(5, len(values))
    rows = -(-len(values) // columns)
    fig, grid = figure(6.4, 1.3 * rows + 0.7, rows, columns)
    colours = colormaps["viridis" if measure.higher else "viridis_r"].with_extremes(bad=(0, 0, 0, 0))
    for axes, name, each in zip(np.ravel(grid), names, values, strict=False):
        shown = averaged(each, SMALL)[0]
        scale = Normalize(*spread(measure, known))
        image = axes.imshow(np.ma.masked_invalid(shown), cmap=colours, norm=scale, aspect="auto", interpolation="none")
        axes.set_title(plain(name, 90 // columns), fontsize="small")
        axes.set_facecolor(BLANK)
    for axes in np.ravel(grid):
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
    for blank in np.ravel(grid)[len(values) :]:
        blank.set_axis_off()
    bar = fig.colorbar(image, ax=grid, fraction=0.05, pad=0.02, label=measure.title)
    bar.outline.set_visible(False)
    titled(fig, None, "", f"Tests (downward) on tasks (across), mean of {seeds(runs)}")
    return fig


@styled
def transfer_matrix(run: Run) -> Figure | None:
    """Return who helped whom: how learning an experience (row) changed the accuracy on each task (column).

    The change from one row of R to the next, in points of accuracy, the mean over seeds: R[e, j] − R[e−1, j]. Of another
    measure, or several, it is in percent of what lies between the worst and the best score in it, and a gain is what
    is better. Left of the diagonal, earlier tasks (backward); right of it, tasks ahead where they are tested
    (forward). The task just learned is left out: its change is learning itself. Where all tasks are not tested after
    every experience, a row is the change since the test of all tasks met before, and it says which tests were left
    out. None with fewer than two tests.

    The differences behind BWT and FWT (Lopez-Paz & Ranzato 2017), cell by cell.
    """
    found = changes_of(run)
    if found is None:
        return None
    changes, steps, most = found
    alone = run.measures == [ACCURACY]
    fig, axes = figure(side(changes.shape[1]) + 1.7, _height(len(changes)))
    unit = "change (percentage points)" if alone else "change (% of worst to best)"
    said = [heat_map(fig, axes, changes, -most, most, unit, "PuOr", "+.0f")]
    if left_out := sorted(set(run.results["evaluation_step"].values) - {*_tests(run)[1]}):
        said.insert(0, f"left out, not of all tasks met: {_named(left_out)}")
    _label(run, axes, steps, "learning experience", said)
    titled(fig, axes, run.strategy, f"who helped whom, {seeds([run])}")
    return fig


def changes_of(run: Run) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Return what `transfer_matrix` draws: changes ``[N, T]``, the experiences learned ``[N]``, the end of the scale; or None."""
    values, steps = _tests(run)
    if len(steps) < 2:
        return None
    alone = run.measures == [ACCURACY]
    changes = 100 * np.diff(values if alone else shares(run, values), axis=0)
    tasks = run.results["experience_task"].values
    for row, (before, after) in enumerate(pairwise(steps)):
        learned = tasks[max(0, before + 1) : after + 1]
        changes[row, learned[learned < changes.shape[1]]] = np.nan  # one that was never tested has no column
    if not np.isfinite(changes).any():
        return None
    most = max(1.0, float(np.nanquantile(np.abs(changes), 0.99)))  # the few beyond it have the colour of the end
    return changes, steps[1:], most


def _label(run: Run, axes: Any, steps: np.ndarray, what: str, said: list[str]) -> None:
    numbered(axes, "y", ["untrained" if step < 0 else str(step) for step in steps])
    several = len(run.measures) > 1
    names = [
        f"{task} {run.task_measures[task].name}" if several else str(task) for task in range(run.results.sizes["task"])
    ]
    numbered(axes, "x", names)
    axes.tick_params(axis="x", labelrotation=90 if several else 0)
    axes.set(xlabel="\n".join(["on task", *(f"({text})" for text in said if text)]), ylabel=what)


def shares(run: Run, values: np.ndarray) -> np.ndarray:
    """Return scores ``[N, T]`` as shares of the way from the worst to the best among them, measure by measure."""
    found = np.full(values.shape, np.nan)
    for measure in run.measures:
        own = [task for task, of_task in enumerate(run.task_measures) if of_task == measure]
        low, high = spread(measure, values[:, own])
        share = (values[:, own] - low) / (high - low)
        found[:, own] = share if measure.higher else 1 - share
    return found


def _tests(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return tests that can be told from each other, mean over seeds ``[N, T]``, and after which experience each was.

    Those of all tasks met where there are two of them, since a test of a task or two shares no task with the one before.
    First of all stands the untrained learner, tested on each task when that came into view: one row of all such tests.
    """
    accuracy, steps = run.results["score"], run.results["evaluation_step"].values
    learned, untrained = np.flatnonzero(steps >= 0), np.flatnonzero(steps < 0)
    full = learned[run.tests_of_all[learned]]
    rows = full if len(full) >= 2 else learned
    values, order = accuracy.isel(evaluation=rows).mean("seed").values, steps[rows]
    if len(untrained):
        before = np.fmax.reduce(accuracy.isel(evaluation=untrained).mean("seed").values, axis=0)
        values, order = np.concatenate([before[None], values]), np.concatenate([[-1], order])
    return values, order


def _named(steps: list[int], most: int = 6) -> str:
    """Return which tests these are, or of many how many."""
    if len(steps) > most:
        return f"{len(steps)} tests"
    return f"test{'s' if len(steps) > 1 else ''} after {', '.join(map(str, steps))}"


def rows_to_show(run: Run) -> np.ndarray:
    """Return the rows of R that make a picture: all, or of many the untrained one and those that tested all tasks met."""
    full = run.tests_of_all | (run.results["evaluation_step"].values < 0)
    some = len(full) > MANY_ROWS and full.sum() >= 3
    return np.flatnonzero(full) if some else np.arange(len(full))


def _height(rows: int) -> float:
    return float(np.clip(0.34 * rows, 2.6, 5.6)) + 0.8
