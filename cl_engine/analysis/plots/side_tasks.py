"""Pictures of side tasks: how much each counted, epoch by epoch."""

from __future__ import annotations

from matplotlib.figure import Figure

from cl_engine.analysis.plots.axes import marks, seeds, thinned
from cl_engine.analysis.plots.strategy_events import told
from cl_engine.analysis.plots.style import colour, figure, legend, plain, styled, titled, whole_numbers
from cl_engine.results.run import Run


@styled
def side_weights(run: Run) -> Figure | None:
    """Return the weight of each side task over the epochs of all experiences that had any, mean over seeds; None if none had."""
    table = told(run)
    found = table[table["kind"] == "AuxiliaryWeighed"]
    if found.empty:
        return None
    wide = found.pivot_table(
        index=["event", "step", "part"], columns="name", values="value", aggfunc="mean"
    ).reset_index()
    wide = wide.assign(at=wide.groupby(["step", "epoch"]).ngroup() + 1)
    fig, axes = figure()
    for number, (part, every) in enumerate(wide.groupby("part", sort=False)):
        rows = every.iloc[thinned(len(every))]
        drawn = marks(number, len(rows))
        axes.plot(rows["at"], rows["weight"], color=colour(number), label=plain(str(part)), **drawn)
    axes.set(xlabel="epochs with side tasks", ylabel="weight, mean over batches", ylim=(0, None))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"weights of side tasks, mean of {seeds([run])}")
    legend(fig, axes)
    return fig
