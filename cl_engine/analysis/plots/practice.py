"""A picture of which task is practised how much."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.plots.axes import marks, seeds
from cl_engine.analysis.plots.strategy_events import told
from cl_engine.analysis.plots.style import PALE, colour, figure, legend, plain, styled, titled, whole_numbers
from cl_engine.results.run import Run

MOST = 8  # tasks that are drawn, half of them those practised most


@styled
def task_shares(run: Run) -> Figure | None:
    """Return the share of practice of each task over the epochs of the last experience; None if none was told.

    Of more than eight tasks the four practised most in the last epoch, and the four practised least.
    """
    table = told(run)
    table = table[table["kind"] == "TaskWeighed"]
    if table.empty:
        return None
    last = table[table["step"] == table["step"].max()]
    where = last[last["name"].isin(("other", "epoch"))].pivot_table(index="event", columns="name", values="value")
    shares = last[last["name"] == "weight"].join(where.astype(int), on="event")
    found = shares.pivot_table(index=["other", "epoch"], columns="seed", values="value").to_xarray().to_array("seed")
    values = found.transpose("other", "epoch", "seed").values
    order = np.argsort(-values[:, -1].mean(axis=1), kind="stable")
    drawn = order if len(order) <= MOST else np.concatenate([order[: MOST // 2], order[-MOST // 2 :]])
    names = run.results["task_name"].values
    fig, axes = figure()
    axes.axhline(1 / len(values), color=PALE, linewidth=0.8)
    epochs, mean = found["epoch"].values, values.mean(axis=2)
    for number, place in enumerate(sorted(drawn)):
        name = plain(str(names[int(found["other"].values[place])]))
        axes.plot(epochs, mean[place], color=colour(number), label=name, **marks(number, len(epochs)))
    axes.set(
        xlabel=f"epochs of experience {int(table['step'].max())}",
        ylabel="share of practice",
        ylim=(0, 1.08 * mean[drawn].max()),
    )
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"which task is practised, mean of {seeds([run])}")
    legend(fig, axes, columns=3)
    return fig
