"""A picture of detections: how many of the boxes are found, and how many answers are right, at each confidence."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.plots.axes import seeds
from cl_engine.analysis.plots.style import colour, figure, legend, plain, styled, titled
from cl_engine.results.run import Run

MEASURE = "ap_50"
MOST = 8  # tasks: of more, lines cannot be told apart


@styled
def precision_recall(run: Run) -> Figure | None:
    """Return precision against recall of each task in the last evaluation, boxes of all seeds together; None if there are none.

    The area under a line, made to fall throughout, is the average precision of the seeds' answers together.
    """
    held = run.results
    if "sums" not in held or "task_measure" not in held:
        return None
    asked = np.flatnonzero(held["task_measure"].values == MEASURE)
    # [task, seed, sum]; where tasks have other measures too, sums that are not of this one are NaN
    every = held["sums"].values[-1:, asked].astype(float).reshape(-1, *held["sums"].shape[2:])
    tested = [(task, own) for task, own in zip(asked, every, strict=False) if np.isfinite(own).any()][:MOST]
    if not tested:
        return None
    fig, axes = figure()
    for number, (task, own) in enumerate(tested):
        boxes, *counts = np.nansum(own, axis=0)[np.isfinite(own).any(axis=0)]
        right, wrong = (np.cumsum(part[::-1]) for part in np.split(np.array(counts), 2))
        answered = right + wrong > 0
        recall, precision = right[answered] / max(boxes, 1), right[answered] / (right + wrong)[answered]
        name = plain(f"{held['task'].values[task]} {held['task_name'].values[task]}", 24)
        axes.plot(recall, precision, color=colour(number), label=name)
    axes.set(xlabel="recall: share of boxes that are found", ylabel="precision: share of answers that are right")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    titled(fig, axes, run.strategy, f"precision and recall at the end, {seeds([run])}")
    legend(fig, axes, columns=4)
    return fig
