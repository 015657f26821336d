"""Pictures of one run over its stream: its tasks, how each was learned, its memory, its time and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_engine.analysis.plots.axes import bars, byte_unit, seeds, thinned
from cl_engine.analysis.plots.panels import Panels
from cl_engine.analysis.plots.strategy_events import told
from cl_engine.analysis.plots.style import (
    INK,
    PALE,
    colour,
    figure,
    legend,
    plain,
    shades,
    styled,
    titled,
    whole_numbers,
)
from cl_engine.analysis.scores.references import reference
from cl_engine.results.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

MANY = 12  # more tasks than this are shown as a band with a few of them in it
SOME = 6  # of them
LANES = 12  # kinds of events in a timeline
BINS = 120  # along a timeline, of more experiences than that


@styled
def tasks_over_stream(run: Run) -> Figure:
    """Return the score of each task over the experiences, from when it was learned; mean over seeds.

    Of more than 12 tasks six are lines, and all of them a band (80 % of the tasks met, and the median one). Of several
    measures each has a panel.
    """
    shown = Panels([run])
    for _, axes, part in shown.of_run(run):
        _over_stream(axes, part)
        whole_numbers(axes)
    shown.named(
        f"each task since it was learned, mean of {seeds([run])}", "experiences learned", "accuracy", run.strategy
    )
    _keyed(shown)
    return shown.fig


def _over_stream(axes: Axes, run: Run) -> None:
    found = run.results
    values, steps, learned = found["score"].mean("seed").values, found["evaluation_step"].values, run.learned
    tasks = np.flatnonzero(learned >= 0)
    if len(tasks) > MANY:
        seen = np.where((learned[None, :] >= 0) & (learned[None, :] <= steps[:, None]), values, np.nan)
        full = np.flatnonzero(run.tests_of_all)
        if len(full):
            low, middle, high = (np.nanquantile(seen[full], share, axis=1) for share in (0.1, 0.5, 0.9))
            at = thinned(len(full))
            band = "80 % of the tasks met"
            axes.fill_between(steps[full][at] + 1, low[at], high[at], color=PALE, alpha=0.5, linewidth=0, label=band)
            axes.plot(steps[full] + 1, middle, color=INK, label="median task")
    picked = _picked(tasks)
    for task, shade in zip(picked, shades(len(picked)), strict=True):
        since = (steps >= learned[task]) & np.isfinite(values[:, task])
        style: dict[str, Any] = {"marker": "o", "markersize": 2.5} if since.sum() <= 40 else {"alpha": 0.7}
        axes.plot(
            steps[since] + 1, values[since, task], color=shade, linewidth=1.2, label=task_name(run, task), **style
        )


def _keyed(shown: Panels) -> None:
    """Name the lines below the axes; those of panels, which show different tasks, inside each."""
    if len(shown.of) == 1:
        shown.legend()
        return
    for axes in shown.of.values():
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="x-small")


@styled
def task_curves(run: Run) -> Figure | None:
    """Return the test score on each task while it is learned for the first time, mean over seeds, against the epochs
    (or batches) since learning began; None if learning was not tested midway.

    Of more than 12 tasks six are lines, and all of them a band (80 % of the tasks, and the median one). Of several
    measures each has a panel.
    """
    shown = Panels([run])
    unit = "epoch" if run.experiment["options"]["agenda"]["curve_epochs"] else "batch"
    if not sum(_learning(axes, part, unit) for _, axes, part in shown.of_run(run)):
        return None
    passes = "passes over its training rows" if unit == "epoch" else "batches of the task"
    title = f"how each task is learned, mean of {seeds([run])}"
    shown.named(title, passes, "test accuracy on the task", run.strategy)
    _keyed(shown)
    return shown.fig


def _learning(axes: Axes, run: Run, unit: str) -> bool:
    """Draw how each task is learned, and return whether there is anything to draw."""
    table = first_learned(run)
    if table.empty:
        return False
    wide = by_task(table, unit)
    tasks = wide.columns.to_numpy()
    if len(tasks) > MANY:
        low, middle, high = wide.quantile([0.1, 0.5, 0.9], axis=1).to_numpy()
        axes.fill_between(wide.index, low, high, color=PALE, alpha=0.5, linewidth=0, label="80 % of the tasks")
        axes.plot(wide.index, middle, color=INK, label="median task")
    picked = _picked(tasks)
    for task, shade in zip(picked, shades(len(picked)), strict=True):
        curve = wide[task].dropna()
        axes.plot(
            curve.index, curve, color=shade, marker="o", markersize=2.5, linewidth=1.2, label=task_name(run, task)
        )
    whole_numbers(axes)
    return True


@styled
def memory_over_stream(run: Run, beside: Sequence[Run] = ()) -> Figure | None:
    """Return the bytes one seed holds over the experiences, by part; with the line of keeping a net a task beside it.

    None where no memory was counted.

    That line is the ``independent`` run among those beside it, or what the strategy itself told of whole nets.
    """
    found = run.results
    held = found["memory"].values
    if not held.size:
        return None
    whole = kept_whole(run, beside)
    unit, name = byte_unit(float(held.sum(axis=1).max(initial=1)))
    fig, axes = figure()
    x = np.arange(1, len(held) + 1)
    at = thinned(len(held), 250)
    parts = [plain(str(part), 24) for part in found["part"].values]
    colours = [colour(k) for k in range(len(parts))]
    axes.stackplot(x[at], (held[at] / unit).T, labels=parts, colors=colours, alpha=0.85, linewidth=0)
    if whole is not None:
        axes.plot(np.arange(1, len(whole) + 1), whole / unit, color=INK, linestyle="--", label="a net kept a task")
    axes.set(xlabel="experiences learned", ylabel=f"memory of one seed ({name})")
    axes.set_ylim(bottom=0)
    titled(fig, axes, run.strategy, f"memory by part, {seeds([run])}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig


@styled
def timeline(run: Run) -> Figure | None:
    """Return where time went over the stream, and below it when each kind of event came; None before the first experience.

    Above: seconds of each experience by phase, all seeds together. Below: a row for each kind of event that the strategy told
    of (of many kinds the 12 rarest), a bar for each experience, the higher the more events. Of more than 120 experiences
    neighbours share a bar.
    """
    found = run.results
    steps = found.sizes["experience"]
    if not steps:
        return None
    events = told(run).drop_duplicates("event")
    counts = events["kind"].value_counts()
    kinds = sorted(counts.index[::-1][:LANES], key=lambda kind: int(events.loc[events["kind"] == kind, "step"].min()))
    kinds = [*kinds, *(["task comes again"] if _again(run).any() else [])]
    fig, (above, below) = figure(height=2.6 + 0.2 * max(1, len(kinds)), rows=2)
    by = -(-steps // BINS)
    edges = np.arange(0, steps + by, by)
    sizes = np.diff(np.minimum(edges, steps))
    middle = edges[:-1] + (sizes + 1) / 2
    bottom = np.zeros(len(middle))
    for number, phase in enumerate(found["phase"].values):
        seconds = np.nan_to_num(found["seconds"].sel(phase=phase).values)
        mean = np.add.reduceat(seconds, edges[:-1]) / sizes
        bars(above, middle, sizes * 0.9, bottom, bottom + mean, colour(number), plain(str(phase)))
        bottom = bottom + mean
    above.set_ylim(0, max(1e-3, 1.05 * float(bottom.max())))
    above.set_ylabel("seconds" if by == 1 else f"seconds\n(means of {by})")
    for lane, kind in enumerate(kinds):
        at = np.flatnonzero(_again(run)) if kind == "task comes again" else events.loc[events["kind"] == kind, "step"]
        count = np.bincount(np.minimum(np.asarray(at, dtype=int), steps - 1) // by, minlength=len(middle))
        there = count > 0
        low = np.full(there.sum(), lane + 0.35)
        narrow = sizes[there] * (0.25 if by == 1 else 0.9)
        bars(below, middle[there], narrow, low, low - 0.7 * (count[there] / count.max()), INK, "")
    below.set(xlabel="experiences learned", ylim=(max(1, len(kinds)) - 0.5, -0.5), xlim=(0.5, steps + 0.5))
    below.set_yticks(range(len(kinds)), [plain(_words(kind), 24) for kind in kinds], fontsize="small")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, nbins="auto", min_n_ticks=2))
    if not kinds:
        below.set_yticks([0], ["the strategy told of nothing"], fontsize="small")
    titled(fig, above, run.strategy, f"time and events, {seeds([run])}")
    legend(fig, above)
    return fig


def first_learned(run: Run) -> pd.DataFrame:
    """Return the rows of ``curves`` of each task's first experience: one that comes again is learned again."""
    table = run.table("curves")
    table = table[table["score"].notna()]
    return table[table["step"] == table.groupby("task")["step"].transform("min")]


def by_task(table: pd.DataFrame, unit: str, columns: str = "task") -> pd.DataFrame:
    """Return scores with points as rows and tasks (or seeds) as columns, the mean over the other."""
    # of each point the earliest test
    first = table.sort_values("batch").drop_duplicates(["task", unit, "seed"], keep="first")
    return first.pivot_table(index=unit, columns=columns, values="score", aggfunc="mean").sort_index()


def kept_whole(run: Run, beside: Sequence[Run]) -> np.ndarray | None:
    """Return the bytes after each experience of keeping a net a task: of ``independent``, or what the strategy told; or None."""
    other = reference(run, beside, "independent")
    if other is not None and other is not run:
        return np.asarray(other.results["memory"].sum("part").values)
    table = told(run)
    kept = table[(table["kind"] == "SkillBytes") & (table["name"] == "kept_whole")]
    return kept.drop_duplicates("step", keep="last")["value"].to_numpy() if len(kept) else None


def _again(run: Run) -> np.ndarray:
    """Say of each experience whether its task had come before."""
    tasks = run.results["experience_task"].values
    again = np.ones(len(tasks), dtype=bool)
    again[np.unique(tasks, return_index=True)[1]] = False
    return again


def _picked(tasks: np.ndarray) -> np.ndarray:
    return tasks if len(tasks) <= MANY else tasks[thinned(len(tasks), SOME)]


def task_name(run: Run, task: int) -> str:
    """Return number and name of a task, shortened for a legend."""
    numbers, names = run.results["task"].values, run.results["task_name"].values
    # one that was learned and never tested has no name
    return plain(f"{numbers[task]} {names[task]}" if task < len(names) else str(task), 24)


def _words(kind: str) -> str:
    """Return the name of an event as words: ``MaskLearned`` is ``mask learned``."""
    return "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in kind).strip()
