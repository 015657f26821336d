"""Pictures and remarks of what strategies report about themselves: masks, gates, owned weights, codes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cl_engine.analysis.plots.axes import heat_map, log_axis, marks, numbered, seeds, side, thinned
from cl_engine.analysis.plots.style import colour, figure, legend, plain, styled, titled, whole_numbers
from cl_engine.core.text import size
from cl_engine.results.run import Run

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
DRIFT = {
    "previous": ("to the recollection before, mean of skills", 0, "-"),
    "previous_worst": ("… of the worst skill", 5, "--"),
    "original": ("to the net as it was learned, mean of skills", 1, "-"),
    "original_worst": ("… of the worst skill", 4, "--"),
}
AUDITED = {"distance": "distance / way of SGD", "accuracy": "score of the field", "accuracy_sgd": "score of SGD"}


@lru_cache(maxsize=2)
def told(run: Run) -> pd.DataFrame:
    """Return the table of what the strategy told, with an empty ``part`` where a log is older than that column.

    All pictures of a run look at it, so it is read once; it is not to be changed.
    """
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
        mean = mean.iloc[thinned(len(mean))]
        axes.plot(mean.index, mean.values, color=colour(number), label=plain(str(part)), **marks(number, len(mean)))
    axes.set(xlabel="experience", ylabel=label, ylim=(0, 1.02))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"{title}, mean of {seeds([run])}")
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
    fig, axes = figure(side(tasks) + 1.5, float(np.clip(0.34 * tasks, 2.6, 5.0)) + 0.8)
    said = heat_map(fig, axes, square, 0, 1, "Jaccard index", written=".2f")
    for axis in "xy":
        numbered(axes, axis, [str(task) for task in range(tasks)])
    axes.set(xlabel="earlier task", ylabel=f"task\n({said})" if said else "task")
    titled(fig, axes, run.strategy, f"overlap of masks, mean over layers and {seeds([run])}")
    return fig


@styled
def modulation(run: Run) -> Figure | None:
    """Return what tasks make of each layer as they were learned last, mean over seeds; None if the strategy told nothing.

    The mean gate of its channels; where no layer has gates, the norm of its adapter over its kernel's.
    """
    table = told(run)
    found = table[table["kind"] == "ModulationLearned"]
    if found.empty:
        return None
    wide = found.pivot_table(index=["event", "part"], columns="name", values="value", aggfunc="mean", sort=False)
    last = wide.reset_index().drop_duplicates(["part", "task_id"], keep="last")
    gated = bool((last["gate"] != 1).any())
    name, label = ("gate", "mean gate") if gated else ("adapter", "norm of the adapter / the kernel's")
    values = last.pivot_table(index="part", columns="task_id", values=name, sort=False).sort_index(axis=1)
    layers, tasks = values.shape
    fig, axes = figure(side(tasks) + 2.2, float(np.clip(0.28 * layers, 1.8, 5.0)) + 0.8)
    high = 1.0 if gated else float(values.to_numpy().max())
    said = heat_map(fig, axes, values.to_numpy(), 0, high, label, written=".2f")
    numbered(axes, "x", [str(int(task)) for task in values.columns])
    numbered(axes, "y", [plain(str(part)) for part in values.index])
    axes.set(xlabel=f"task\n({said})" if said else "task")
    titled(fig, axes, run.strategy, f"{'gates' if gated else 'adapters'} by task, mean of {seeds([run])}")
    return fig


@styled
def code_drift(run: Run) -> Figure | None:
    """Return how near recalled nets are to what they were, after each consolidation; None if no codes were consolidated.

    The cosine of weights, mean over seeds: of a skill's recollections before and after (how far one consolidation makes codes
    drift), and of the recollection and the net as it was learned (what all of them lost); over the skills the mean, and
    the worst.
    """
    table = told(run)
    found = table[(table["kind"] == "Consolidated") & table["name"].isin(list(DRIFT))].dropna(subset=["value"])
    if found.empty:
        return None
    wide = found.pivot_table(index="step", columns="name", values="value", aggfunc="mean")
    fig, axes = figure()
    for name in (name for name in DRIFT if name in wide):
        label, number, dashes = DRIFT[name]
        values = wide[name].dropna()
        drawn = {**marks(number, len(values)), "linestyle": dashes}
        axes.plot(values.index + 1, values, color=colour(number), label=label, **drawn)
    room = max(1e-4, 1 - float(wide.min().min()))
    axes.set(xlabel="experiences learned", ylabel="cosine (1: the same net)", ylim=(1 - 1.1 * room, 1 + 0.1 * room))
    axes.ticklabel_format(axis="y", useOffset=False)
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"drift of codes, mean of {seeds([run])}")
    legend(fig, axes, columns=2)
    return fig


@styled
def codes_moved(run: Run) -> Figure | None:
    """Return how far nets of past codes moved while each task was learned; None if no generator makes nets from codes.

    As a share of their distance from the start that nets share, mean over seeds: of the past codes looked at the mean, and
    the worst.
    """
    table = told(run)
    found = table[(table["kind"] == "CodesDrifted") & (table["name"] == "distance")]
    if found.empty:
        return None
    each = found.groupby(["step", "event"])["value"].mean().groupby("step")
    fig, axes = figure()
    for number, (label, values) in enumerate({"mean of past codes": each.mean(), "the worst": each.max()}.items()):
        axes.plot(values.index + 1, values, color=colour(number), label=label, **marks(number, len(values)))
    axes.set(xlabel="experiences learned", ylabel="way moved / distance from the start", ylim=(0, None))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"nets of past codes, moved by one task, mean of {seeds([run])}")
    legend(fig, axes)
    return fig


@styled
def field_beside_sgd(run: Run) -> Figure | None:
    """Return how far the nets of a field are from a real run of SGD, over its steps; None if none was audited.

    As a share of the way that SGD has come, mean over tasks and seeds; and the scores of both.
    """
    table = told(run)
    found = table[table["kind"] == "FieldAudited"]
    if found.empty:
        return None
    wide = found.pivot_table(index="event", columns="name", values="value", aggfunc="mean").groupby("time").mean()
    fig, axes = figure()
    for number, (name, label) in enumerate(AUDITED.items()):
        axes.plot(wide.index, wide[name], color=colour(number), label=label, **marks(number, len(wide)))
    axes.set(xlabel="steps of SGD", ylabel="share; score", ylim=(0, None))
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"the field beside SGD, mean over tasks and {seeds([run])}")
    legend(fig, axes)
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
        axes.plot(values.index + 1, values.values, color=colour(number), label=label, **marks(number, len(values)))
    log_axis(axes, "y", size)
    axes.set(xlabel="experiences learned", ylabel="bytes of one seed (logarithmic)")
    whole_numbers(axes)
    titled(fig, axes, run.strategy, f"codes against whole nets, {seeds([run])}")
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
