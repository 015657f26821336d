"""Pictures of what long streams do to a net: its units and weights before each experience."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of
from cl_engine.analysis.plots.axes import line, seeds
from cl_engine.analysis.plots.panels import Panels
from cl_engine.analysis.plots.style import figure, legend, numbers_of, styled, titled, whole_numbers
from cl_engine.analysis.scores.diagnostics import diagnostics_of
from cl_engine.analysis.scores.losses import training_losses
from cl_engine.analysis.scores.retention import retained
from cl_engine.results.run import Run

SHOWN = {
    "dead": "dead units (%)",
    "effective_rank": "effective rank (% of units)",
    "weight_mean": "mean magnitude of weights",
    "gradient_norm": "norm of the gradient",
}
LINES = 16


@styled
def retention(runs: Sequence[Run]) -> Figure | None:
    """Return the score of a task against the experiences since it was learned, with its 95 % confidence band, a line a run."""
    shown, drawn = Panels(runs), False
    numbers = numbers_of([run.strategy for run in runs[:LINES]])
    for number, run, name in zip(numbers, runs[:LINES], names_of(runs)[:LINES], strict=True):
        for _, axes, part in shown.of_run(run):
            ages, scores = retained(part)
            if len(ages) > 1:
                line(axes, ages, scores, number, name)
                whole_numbers(axes)
                drawn = True
    shown.named(
        f"{{}} on tasks learned before, {seeds(runs)}", "experiences since a task was learned", "accuracy on it"
    )
    shown.legend()
    return shown.fig if drawn else None


@styled
def training_loss(runs: Sequence[Run]) -> Figure | None:
    """Return the training loss of each experience in its last epoch, with its 95 % confidence band; None if it was not logged."""
    fig, axes = figure()
    numbers = numbers_of([run.strategy for run in runs[:LINES]])
    for number, run, name in zip(numbers, runs[:LINES], names_of(runs)[:LINES], strict=True):
        found = training_losses(run)
        if found is not None:
            line(axes, *found, number, name)
    if not axes.lines:
        return None
    axes.set(xlabel="experience", ylabel="training loss, last epoch")
    whole_numbers(axes)
    legend(fig, axes)
    titled(fig, axes, "", f"Training loss, {seeds(runs)}")
    return fig


@styled
def diagnostics_over_stream(runs: Sequence[Run]) -> Figure | None:
    """Return what units and weights were like before each experience, a line a run; None if no run was looked at."""
    found = [
        (number, run, name)
        for number, run, name in zip(numbers_of([run.strategy for run in runs]), runs, names_of(runs), strict=True)
        if run.tables.get("diagnostics")
    ][:LINES]
    if not found:
        return None
    fig, grid = figure(height=5.4, rows=2, columns=2)
    for axes, (quantity, label) in zip(np.ravel(grid), SHOWN.items(), strict=True):
        for number, run, name in found:
            steps, values = diagnostics_of(run, quantity)
            if np.isfinite(values).any():
                line(axes, steps + 1, values * (100 if "%" in label else 1), number, name)
        axes.set_ylabel(label)
        whole_numbers(axes)
        axes.set_ylim(bottom=0)
    for axes in grid[1]:
        axes.set_xlabel("experience")
    legend(fig, *np.ravel(grid))
    titled(fig, None, "", f"The net before each experience, {seeds([run for _, run, _ in found])}")
    return fig
