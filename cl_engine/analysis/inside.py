"""Pictures and remarks of what strategies tell about their inside: masks, gates, owned weights, codes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cl_engine.analysis.style import colour, figure, legend, mark, plain, styled, titled, whole_numbers
from cl_engine.formats import size
from cl_engine.results import Run

LAYERS = {
    "LayerMask": ("zeroed", "share of the layer's weights switched off", "what the masks switch off"),
    "WeightsOwned": ("free", "share of the layer's weights still free", "what is left to later tasks"),
    "GatesUsed": ("used", "share of the layer's units in use", "what the gates have taken"),
}
BYTES = {
    "kept_whole": "every net kept whole",
    "in_all": "bytes in all",
    "recall_only": "bytes that recalling reads",
}


def told(run: Run) -> pd.DataFrame:
    """Return the table of what the strategy told, with an empty ``part`` where a log is older than that column."""
    table = run.table("events")
    return table if "part" in table else table.assign(part="")


@styled
def layers(run: Run) -> Figure | None:
    """Return a share over the stream, a line a layer, mean over seeds; None if the strategy told none."""
    table = told(run)
    kind = next((kind for kind in LAYERS if (table["kind"] == kind).any()), None)
    if kind is None:
        return None
    name, label, title = LAYERS[kind]
    found = table[(table["kind"] == kind) & (table["name"] == name)]
    fig, axes = figure()
    for number, (part, rows) in enumerate(found.groupby("part", sort=False)):
        mean = rows.groupby("step")["value"].mean()
        axes.plot(
            mean.index, mean.values, color=colour(number), marker=mark(number), markersize=4, label=plain(str(part))
        )
    axes.set(xlabel="experience", ylabel=label, ylim=(0, 1.02))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, title)
    legend(fig, axes)
    return fig


@styled
def overlap(run: Run) -> Figure | None:
    """Return the Jaccard index of every pair of masks that was told, mean over layers and seeds; None if none was."""
    table = told(run)
    found = table[table["kind"] == "MaskOverlap"]
    if found.empty:
        return None
    by_event = found.pivot_table(index="event", columns="name", values="value", aggfunc="mean")
    tasks = int(max(by_event["task_id"].max(), by_event["other"].max())) + 1
    square = np.full((tasks, tasks), np.nan)
    for (task, other), value in by_event.groupby(["task_id", "other"])["jaccard"].mean().items():
        square[int(task), int(other)] = value
    fig, axes = figure(height=4.2)
    image = axes.imshow(square, cmap="viridis", vmin=0, vmax=1)
    fig.colorbar(image, ax=axes, label="Jaccard index")
    axes.set(xlabel="earlier task", ylabel="task")
    axes.grid(visible=False)
    whole_numbers(axes)
    whole_numbers(axes, "y")
    titled(fig, axes, run.strategy, "overlap of masks")
    return fig


@styled
def code_bytes(run: Run) -> Figure | None:
    """Return the bytes of codes beside those of whole nets, over the stream; None if the strategy keeps no codes."""
    curves = _code_bytes(run)
    if curves is None:
        return None
    fig, axes = figure()
    for number, (name, label) in enumerate(BYTES.items()):
        values = curves[name]
        axes.plot(values.index + 1, values.values, color=colour(number), marker=mark(number), markersize=4, label=label)
    axes.set(xlabel="experiences learned", ylabel="bytes of one seed (logarithmic)", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, place: size(value))
    axes.yaxis.set_minor_formatter(lambda value, place: "")
    whole_numbers(axes)
    titled(fig, axes, run.strategy, "codes against whole nets")
    legend(fig, axes)
    return fig


def remarks_inside(run: Run) -> Iterator[str]:
    """Say where codes start to pay, and which masks did not move."""
    curves = _code_bytes(run)
    if curves is not None:
        less = curves["in_all"] < curves["kept_whole"]
        last = curves.iloc[-1]
        if less.iloc[-1]:
            first = int(less[::-1].cumprod()[::-1].idxmax()) + 1
            times = last["kept_whole"] / last["in_all"]
            yield f": codes take less than whole nets from experience {first} on; at the end nets are {times:.1f} times as large"
        else:
            yield (
                f": the codes never pay on this stream: at the end they take {size(last['in_all'])} in all, "
                f"whole nets {size(last['kept_whole'])}"
            )
    table = told(run)
    flips = table[(table["kind"] == "MaskLearned") & (table["name"] == "flipped")]
    still = flips[flips["value"] == 0]
    if len(still):
        yield f": in {len(still)} of {len(flips)} cases (task and seed) not one bit of the mask changed while learning"


def _code_bytes(run: Run) -> pd.DataFrame | None:
    table = told(run)
    found = table[(table["kind"] == "SkillBytes") & table["name"].isin(list(BYTES))]
    if found.empty:
        return None
    return found.pivot_table(index="step", columns="name", values="value", aggfunc="last")
