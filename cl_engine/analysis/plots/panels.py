"""Axes of scores: one set where all tasks are measured alike, otherwise a panel for each measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_engine.analysis.plots.style import figure, legend, titled
from cl_engine.core.measure import Measure
from cl_engine.results.of_measure import of_each_measure, taken_apart
from cl_engine.results.run import Run

ACCURACY = Measure("accuracy")
PANEL = 1.75  # inches that a row of panels is high


class Panels:
    """A picture of scores, with axes for each measure of the runs.

    >>> Panels([]).of
    {}

    Attributes:
        fig: the picture.
        of: the axes of each measure.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        measures = list(of_each_measure(runs))
        rows = -(-len(measures) // 2)
        size = {"height": PANEL * rows + 0.9, "rows": rows, "columns": 2} if len(measures) > 1 else {}
        self.fig: Figure
        self.fig, grid = figure(**size)  # type: ignore[arg-type]
        shown = list(np.ravel(grid))
        for blank in shown[len(measures) :] if measures else ():
            blank.set_axis_off()
        self.of: dict[Measure, Axes] = dict(zip(measures, shown, strict=False))

    def of_run(self, run: Run) -> list[tuple[Measure, Axes, Run]]:
        """Return where a run is drawn: measure, axes, and the run with the tasks of that measure alone."""
        return [(part.measures[0], self.of[part.measures[0]], part) for part in taken_apart(run)]

    def named(self, title: str, x: str, y: str, name: str = "", levels: bool = True) -> None:
        """Write the title, and beside the axes what they show; ``levels``: scores, not differences of them.

        In the title and beside the axes of one measure ``{}`` stands for it.
        """
        several = len(self.of) > 1
        for place, (measure, axes) in enumerate(self.of.items()):
            if several:
                axes.set_title(measure.title if levels else with_unit(measure), fontsize="medium", fontweight="normal")
            else:
                axes.set_ylabel(beside_axes(measure, y, levels))
            if place >= len(self.of) - 2:
                axes.set_xlabel(x)
            if levels and spread(measure, _drawn(axes)) == (0.0, 1.0):
                axes.set_ylim(0, 1.02)
        ends = [axes.dataLim.intervalx for axes in self.of.values() if np.isfinite(axes.dataLim.intervalx).all()]
        if several and ends:  # all panels are over the same stretch
            low, high = min(low for low, _ in ends), max(high for _, high in ends)
            for axes in self.of.values():
                axes.set_xlim(low - 0.05 * (high - low + 1), high + 0.05 * (high - low + 1))
        only = next(iter(self.of.values())) if len(self.of) == 1 else None
        what = "accuracy" if set(self.of) <= {ACCURACY} else "score"
        text = title.format(what)
        titled(self.fig, only, name, text[:1].upper() + text[1:] if not name else text)

    def legend(self) -> None:
        """Put one legend below all axes."""
        legend(self.fig, *self.of.values())


def with_unit(measure: Measure) -> str:
    """Return a measure's name with its unit: what differences of scores are in, turned so that more is better."""
    return measure.name if measure.unit == "1" else f"{measure.name} ({measure.unit})"


def beside_axes(measure: Measure, y: str, levels: bool) -> str:
    """Return what stands beside the axes of a measure, where accuracies would have ``y``.

    >>> beside_axes(Measure("mse", higher=False), "online accuracy", levels=False)
    'online score, mse'
    """
    if measure == ACCURACY:
        return y
    return measure.title if levels else f"{y.replace('accuracy', 'score')}, {with_unit(measure)}"


def spread(measure: Measure, scores: np.ndarray) -> tuple[float, float]:
    """Return the ends of the scale that scores are drawn on: 0 and 1 of shares, otherwise the least and the most."""
    known = scores[np.isfinite(scores)]
    share = measure.higher and measure.unit == "1" and len(known) and known.min() >= 0 and known.max() <= 1
    if measure == ACCURACY or share or not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return low, high if high > low else low + 1.0


def _drawn(axes: Axes) -> np.ndarray:
    return np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines] or [np.empty(0)])
