"""Heat maps: R of many runs side by side, R of one, and who helped whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba

from cl_engine.analysis.charts.chart import Chart, Table, joined
from cl_engine.analysis.charts.lines import Named
from cl_engine.analysis.charts.specs import map_of_cells
from cl_engine.analysis.plots.axes import WRITTEN, ink_on
from cl_engine.analysis.plots.matrices import changes_of, rows_to_show
from cl_engine.analysis.plots.panels import ACCURACY, spread
from cl_engine.core.measure import Measure
from cl_engine.results.run import Run

MOST_CELLS = 10_000  # of a map; of more, neighbours are averaged
MOST_OF_ALL = 60_000  # of all the maps of a figure
MOST_NAMED = 60  # rows that have names at their axis
MOST_OF_SEEDS = 2_000  # cells up to which each seed has a map of its own
VIRIDIS, PUOR = ([to_hex(colormaps[name](k / 16)) for k in range(17)] for name in ("viridis", "PuOr"))


def cells(values: np.ndarray, rows: np.ndarray, most: int = MOST_CELLS) -> Table:
    """Return a matrix ``[rows, tasks]`` as rows of a table, a cell each that has a number; ``rows`` are experiences.

    ``left``, ``right``, ``top``, ``bottom`` are edges, ``task`` and ``after`` say what a cell is of. Of more than ``most``
    cells the means of blocks are returned.
    """
    by = max(1, int(np.ceil(np.sqrt(values.size / most))))
    down, across = (np.arange(0, count, by) for count in values.shape)
    there = np.isfinite(values)
    sums = np.add.reduceat(np.add.reduceat(np.where(there, values, 0.0), down, axis=0), across, axis=1)
    counts = np.add.reduceat(np.add.reduceat(there.astype(int), down, axis=0), across, axis=1)
    row, column = np.nonzero(counts)
    last_row, last_column = (
        np.minimum(edges[places] + by, count) - 1
        for edges, places, count in ((down, row, values.shape[0]), (across, column, values.shape[1]))
    )
    task, after = across[column], rows[down[row]]
    return {
        "left": task - 0.5,
        "right": last_column + 0.5,
        "top": down[row] - 0.5,
        "bottom": last_row + 0.5,
        "task": _spans(task, last_column),
        "after": _spans(after, rows[last_row]),
        "value": sums[row, column] / counts[row, column],
    }


def matrices_of(runs: Named) -> Chart | None:
    """Return R of all runs side by side on one scale, the mean over seeds; None of one run, or where measures differ."""
    measures = {measure for _, run in runs for measure in run.measures}
    if len(runs) < 2 or len(measures) > 1:
        return None
    (measure,) = measures
    tables, low, high, called, size = [], np.inf, -np.inf, [], (0, 0)
    for name, run in runs:
        values, steps = _matrix(run)
        low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        table = cells(values, steps, max(100, MOST_OF_ALL // len(runs)))
        tables.append({"run": np.full(len(table["value"]), name, dtype=object), **table})
        called.append(_names(steps))
        size = (max(size[0], values.shape[0]), max(size[1], values.shape[1]))
    what = "accuracy" if measure == ACCURACY else measure.title
    rows = (
        called[0] if all(names == called[0] for names in called) else []
    )  # of tests at other times their number is told
    ends = spread(measure, np.array([low, high]))
    spec = map_of_cells("on task", "after" if rows else "test", what, *ends, _scale(measure), rows, several=True)
    return _figure(f"R of all runs side by side: {what}", spec, {"main": joined(tables)}, what, size)


def matrix_of(run: Run) -> Chart | None:
    """Return R of a run: the mean over seeds, and of a small one that of each seed too; None of several measures."""
    if len(run.measures) > 1:
        return None
    measure = run.measures[0]
    values, steps = _matrix(run)
    panels, matrices = ["mean over seeds"], [values]
    if run.results.sizes["seed"] > 1 and values.size * run.results.sizes["seed"] <= MOST_OF_SEEDS:
        of_seeds = run.results["score"].isel(evaluation=rows_to_show(run)).values
        panels += [f"seed {seed}" for seed in run.results["seed"].values]
        matrices += list(np.moveaxis(of_seeds, 2, 0))
    what = "accuracy" if measure == ACCURACY else measure.title
    low, high = spread(measure, values)
    return matrix_figure(
        f"R: {what}", what, dict(zip(panels, matrices, strict=True)), steps, low, high, _scale(measure)
    )


def helped_by(run: Run) -> Chart | None:
    """Return what learning each experience did to the score on each other task, as `transfer_matrix` draws it."""
    found = changes_of(run)
    if found is None:
        return None
    changes, steps, most = found
    what = "change (percentage points)" if run.measures == [ACCURACY] else "change (% of worst to best)"
    return matrix_figure("Who helped whom", what, {"": changes}, steps, -most, most, PUOR, y="learning", form="+.0f")


def matrix_figure(
    title: str,
    what: str,
    panels: Mapping[str, np.ndarray],
    steps: np.ndarray,
    low: float,
    high: float,
    colours: Sequence[str],
    y: str = "after",
    form: str = ".2f",
) -> Chart:
    """Return matrices ``[rows, columns]`` of one shape as a heat map, to be chosen between by their names.

    ``steps`` are the experiences of the rows. Few cells have their numbers written in.
    """
    tables: list[Table] = []
    written: list[Table] = []
    for panel, values in panels.items():
        table = cells(values, steps)
        count = len(table["value"])
        chosen = {"panel": np.full(count, panel, dtype=object)} if len(panels) > 1 else {}
        tables.append({**chosen, **table})
        if values.size <= WRITTEN:
            shares = (np.asarray(table["value"]) - low) / ((high - low) or 1.0)
            inks = [ink_on(to_rgba(colours[round(float(k) * (len(colours) - 1))])) for k in np.clip(shares, 0, 1)]
            texts = [f"{value:{form}}".replace("0.", ".", 1) for value in table["value"]]
            at = {"task": np.asarray(table["left"]) + 0.5, "row": np.asarray(table["top"]) + 0.5}
            written.append({**chosen, **at, "text": texts, "inked": inks})
    size = next(iter(panels.values())).shape
    spec = map_of_cells("on task", y, what, low, high, colours, _names(steps))
    held = {"main": joined(tables), **({"ticks": joined(written)} if written else {})}
    after = "learning experience" if y == "learning" else "after experience"
    return _figure(
        title, spec, held, what, size, after, panels=[(panel, "") for panel in panels] if len(panels) > 1 else []
    )


def _matrix(run: Run) -> tuple[np.ndarray, np.ndarray]:
    shown = rows_to_show(run)
    values = run.results["score"].isel(evaluation=shown).mean("seed").values
    return values, run.results["evaluation_step"].values[shown]


def _figure(
    title: str,
    spec: Any,
    tables: dict[str, Table],
    what: str,
    size: tuple[int, ...],
    after: str = "after experience",
    **own: Any,
) -> Chart:
    return Chart(
        title,
        spec,
        tables,
        tips=[("task", "task"), ("after", after), ("value", what)],
        fitted={"x": ["left", "right"], "y": ["top", "bottom"]},
        ends={"x0": -0.5, "x1": size[1] - 0.5, "y0": -0.5, "y1": size[0] - 0.5},
        **own,
    )


def _scale(measure: Measure) -> Sequence[str]:
    return VIRIDIS if measure.higher else VIRIDIS[::-1]


def _names(steps: np.ndarray) -> list[str]:
    """Return how few rows are called at their axis; −1 is the untrained learner."""
    return ["untrained" if step < 0 else str(step) for step in steps] if len(steps) <= MOST_NAMED else []


def _spans(first: np.ndarray, last: np.ndarray) -> Sequence[Any] | np.ndarray:
    """Return what a cell is of, as text: a number, or where it is of several ``0–3``."""
    named = [
        ("untrained" if low < 0 else str(low)) + (f"–{high}" if high > low else "")
        for low, high in zip(first, last, strict=True)
    ]
    return np.array(named, dtype=object)
