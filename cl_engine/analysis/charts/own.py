"""Figures of one run, by the names of the pictures (`gallery`) whose place they take on a screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cl_engine.analysis.charts.cells import helped_by, matrix_of
from cl_engine.analysis.charts.chart import Chart, Table, joined
from cl_engine.analysis.charts.lines import figure_of_lines, rows_of
from cl_engine.analysis.charts.specs import standing_bars
from cl_engine.analysis.plots.axes import thinned
from cl_engine.analysis.plots.one_run import by_task, first_learned, kept_whole, task_name
from cl_engine.analysis.plots.panels import ACCURACY, spread
from cl_engine.analysis.plots.style import COLOURS, plain, shades
from cl_engine.results.of_measure import taken_apart
from cl_engine.results.run import Run

MOST_TASKS = 24  # with a line of their own; of more, some, evenly spread
MOST_BARS = 200

Made = Callable[[], Chart | None]


def of_run(run: Run, beside: Sequence[Run] = ()) -> dict[str, Made]:
    """Return how each figure of one run is made; what the run does not hold is None then."""
    if run.final is None:
        return {}
    return {
        "matrix": lambda: matrix_of(run),
        "helped": lambda: helped_by(run),
        "tasks": lambda: tasks_of(run),
        "curves": lambda: curves_of(run),
        "memory-parts": lambda: memory_of(run, beside),
    }


def tasks_of(run: Run) -> Chart | None:
    """Return the score of each task over the experiences, from when it was learned; a line a task, and those of its seeds."""

    def lines(part: Run, task: int) -> tuple[np.ndarray, np.ndarray]:
        steps, values = part.results["evaluation_step"].values, part.results["score"][:, task].values
        since = steps >= part.learned[task]
        return steps[since] + 1, values[since]

    shown = [
        (part, task, *lines(part, task))
        for part in taken_apart(run)
        for task in _some(np.flatnonzero(part.learned >= 0))
        if task < part.results.sizes["task"]
    ]
    return _of_tasks(run, shown, "each task since it was learned", "experiences learned")


def curves_of(run: Run) -> Chart | None:
    """Return the test score on each task while it is learned for the first time, against epochs or batches."""
    unit = "epoch" if run.experiment["options"]["agenda"]["curve_epochs"] else "batch"
    shown = []
    for part in taken_apart(run):
        table = first_learned(part)
        if table.empty:
            continue
        for task in _some(np.unique(table["task"].to_numpy())):
            own = table[table["task"] == task]
            wide = by_task(own, unit, "seed").reindex(columns=part.results["seed"].values)
            shown.append((part, task, wide.index.to_numpy(), wide.to_numpy(dtype=float)))
    x = "passes over its training rows" if unit == "epoch" else "batches of the task"
    return _of_tasks(run, shown, "how each task is learned", x)


def memory_of(run: Run, beside: Sequence[Run] = ()) -> Chart | None:
    """Return the bytes that one seed holds over the experiences, part by part; a line of keeping every net beside them."""
    held = run.results["memory"].values
    if not held.size:
        return None
    at = thinned(len(held), MOST_BARS)
    right = np.append(at[1:], len(held))
    parts = [plain(str(part), 24) for part in run.results["part"].values]
    top = held[at].cumsum(axis=1) / 1e3
    tables: list[Table] = [
        {
            "series": np.full(len(at), part, dtype=object),
            "left": at + 0.5,
            "right": right + 0.5,
            "bottom": top[:, k] - held[at, k] / 1e3,
            "top": top[:, k],
            "experience": at + 1,
            "value": held[at, k],
        }
        for k, part in enumerate(parts)
    ]
    whole = kept_whole(run, beside)
    kept = {} if whole is None else {"ticks": {"x": np.arange(1, len(whole) + 1), "mean": whole / 1e3}}
    return Chart(
        f"{run.strategy}: memory by part" + (" (dashed: a net kept a task)" if kept else ""),
        standing_bars("experiences learned", "memory of one seed (kB)"),
        {"main": joined(tables), **kept},
        tips=[("series", "part"), ("experience", "experience"), ("value", "bytes")],
        series=parts,
        shades=[COLOURS[k % len(COLOURS)] for k in range(len(parts))],
        fitted={"x": ["left", "right"], "y": ["bottom", "top"]},
    )


def _of_tasks(run: Run, shown: Sequence[tuple[Run, int, np.ndarray, np.ndarray]], title: str, x: str) -> Chart | None:
    if not shown:
        return None
    main: list[Table] = []
    single: list[Table] = []
    panels: dict[str, str] = {}
    names: dict[str, None] = {}
    for part, task, at, values in shown:
        measure = part.measures[0]
        panels.setdefault(measure.title, "accuracy" if measure == ACCURACY else measure.title)
        name = task_name(part, task)
        names.setdefault(name)
        rows, seeds = rows_of(name, at, values, part.results["seed"].values.tolist(), panel=measure.title)
        for table, kept in ((rows, main), (seeds, single)):
            kept.append({key: column for key, column in table.items() if key != "run"})
    tables = {"main": joined(main), "seeds": joined(single)}
    measures = run.measures
    whole = len(measures) == 1 and spread(measures[0], np.asarray(tables["main"]["mean"], dtype=float)) == (0.0, 1.0)
    colours = ["#{:02X}{:02X}{:02X}".format(*(round(255 * part) for part in rgb[:3])) for rgb in shades(len(names))]
    return figure_of_lines(
        f"{run.strategy}: {title}",
        x,
        tables,
        list(panels.items()),
        whole=(0.0, 1.0) if whole else (),
        series=list(names),
        shades=colours,
    )


def _some(tasks: np.ndarray) -> np.ndarray:
    return tasks if len(tasks) <= MOST_TASKS else tasks[thinned(len(tasks), MOST_TASKS)]
