"""Pictures of the agenda's metrics: over the stream, which classes are taken for which, and confidence against accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of
from cl_engine.analysis.plots.axes import heat_map, line, numbered, seeds, side
from cl_engine.analysis.plots.panels import Panels
from cl_engine.analysis.plots.style import (
    INK,
    PALE,
    colour,
    figure,
    legend,
    numbers_of,
    plain,
    styled,
    titled,
    whole_numbers,
)
from cl_engine.analysis.scores import own_metrics
from cl_engine.metrics.sums import ratio
from cl_engine.results.logged_metrics import LoggedMetric
from cl_engine.results.run import Run

LINES = 16  # most runs drawn as lines
TASKS = 9  # most tasks with a confusion matrix of their own
WRITTEN = 5  # most classes whose numbers stand in a small panel
AIDS = {
    "matrix": "A row is a class as labelled, a column as answered; on the diagonal, right.",
    "bins": "On the line, answers are right as often as they say. Below it, they are too sure.",
}


def asked(runs: Sequence[Run]) -> dict[str, LoggedMetric]:
    """Return the metrics of answers that any of the runs was asked for, by name."""
    return {name: about for run in runs for name, about in run.metrics.items() if about.of == "answers"}


@styled
def over_stream(runs: Sequence[Run], name: str) -> Figure | None:
    """Return a metric of answers over the experiences, its mean over the tasks met, a line a run; None if no run has it."""
    shown, about = Panels(runs), asked(runs)[name]
    drawn = False
    named = list(zip(runs, names_of(runs), strict=True))[:LINES]
    for number, (run, called) in zip(numbers_of([run.strategy for run, _ in named]), named, strict=True):
        for _, axes, part in shown.of_run(run) if name in run.metrics else ():
            values = own_metrics.over_stream(part, name)
            known = np.isfinite(values).any(axis=1)
            if known.any():
                line(axes, part.results["evaluation_step"].values[known] + 1, values[known], number, called)
                drawn = True
            whole_numbers(axes)
    more = f", first {LINES} of {len(runs)} runs" if len(runs) > LINES else ""
    title = f"{about.title} on the tasks met so far, {seeds(runs)}{more}"
    shown.named(title.replace("{", "(").replace("}", ")"), "experiences learned", about.title, levels=False)
    shown.legend()
    return shown.fig if drawn else None


@styled
def of_sums(run: Run, name: str) -> Figure | None:
    """Return what a metric's sums at the last test say, as its ``picture`` asks for it; None where none were kept."""
    sums = {task: np.nansum(own, axis=0) for task, own in run.metric_sums(name).items()}
    draw = DRAWN.get(run.metrics[name].picture)
    return draw(run, sums) if sums and draw else None


def _confusion(run: Run, sums: dict[int, np.ndarray]) -> Figure | None:
    """Draw the share of each class's rows (or places) answered by each class, seeds together: by task, or of all together.

    Of all together where labels mean the same for all tasks, as in the setting ``class``.
    """
    tables = {task: own.reshape(math.isqrt(len(own)), -1) for task, own in sums.items() if _square(len(own))}
    if not tables:
        return None
    together = run.experiment["options"]["stream"].get("setting") == "class"
    if together:
        tables = {-1: np.sum(list(tables.values()), axis=0)}
    shown = dict(list(tables.items())[:TASKS])
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    if len(shown) == 1:
        wide = side(len(next(iter(shown.values()))))
        fig, grid = figure(wide + 1.5, wide)
    else:
        fig, grid = figure(7.4, 2.1 * rows + 0.6, rows, columns)
    named = run.results["task_name"].values
    for place, (axes, (task, table)) in enumerate(zip(np.ravel(grid), shown.items(), strict=False)):
        last = place % columns == columns - 1 or place == len(shown) - 1
        written = ".2f" if len(shown) == 1 or len(table) <= WRITTEN else ""
        what = "share of the class" if last else ""
        heat_map(fig, axes, ratio(table, table.sum(axis=1, keepdims=True)), 0, 1, what, written=written)
        numbers = [str(k) for k in range(len(table))]
        numbered(axes, "x", numbers)
        numbered(axes, "y", numbers)
        axes.set(xlabel="answered" if len(shown) == 1 else "", ylabel="labelled" if len(shown) == 1 else "")
        if task >= 0 and len(shown) > 1:
            axes.set_title(plain(f"{task} {named[task]}", 24), fontsize="medium", fontweight="normal")
            axes.tick_params(labelbottom=True, labelleft=True)
    for axes in np.ravel(grid)[len(shown) :]:
        axes.set_axis_off()
    part = f", first {TASKS} of {len(tables)} tasks" if len(tables) > TASKS else ""
    if len(shown) > 1:
        fig.supxlabel("answered", fontsize="medium")
        fig.supylabel("labelled", fontsize="medium")
    only = np.ravel(grid)[0] if len(shown) == 1 else None
    titled(fig, only, run.strategy, f"answers by class at the end, {seeds([run])} together{part}")
    return fig


def _reliability(run: Run, sums: dict[int, np.ndarray]) -> Figure:
    """Draw accuracy by confidence (Guo et al. 2017, fig. 1), all tasks and seeds together, and the share of rows in each bin."""
    rows, right, confidence = np.split(np.sum(list(sums.values()), axis=0), 3)
    bins, held = len(rows), rows > 0
    middle, wide = (np.arange(bins) + 0.5) / bins, 1 / bins
    fig, axes = figure(5.6, 3.6)
    axes.bar(middle[held], rows[held] / rows.sum(), wide, color=PALE, linewidth=0, label="share of rows")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":", label="confidence = accuracy")
    axes.plot((confidence[held] / rows[held]), right[held] / rows[held], "o-", color=colour(0), label="accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share")
    titled(fig, axes, run.strategy, f"accuracy by confidence, {seeds([run])}")
    legend(fig, axes, columns=3)
    return fig


def _square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


DRAWN: dict[str, Callable[[Run, dict[int, np.ndarray]], Figure | None]] = {"matrix": _confusion, "bins": _reliability}
