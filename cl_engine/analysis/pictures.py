"""Pictures of runs: each a function that takes runs and returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from cl_engine import metrics
from cl_engine.analysis.names import names_of
from cl_engine.analysis.scores import interval, learning_curve, reference, summarised
from cl_engine.analysis.style import INK, PALE, colour, figure, legend, mark, plain, styled, titled, whole_numbers
from cl_engine.formats import size
from cl_engine.results import Run

MANY = 12  # more tasks than this are shown as a band with a few of them in it
MANY_ROWS = 60  # with more rows than this, those that tested only a task or two are left out of the matrix


@styled
def matrix(run: Run) -> Figure:
    """Return the accuracy matrix R as a heat map, the mean over seeds; grey where nothing was measured.

    Of many rows of which most are tests of a task or two, those that tested all tasks met are shown, and it says so.
    """
    found = run.results
    shown = _rows_to_show(run)
    values = found["accuracy"].isel(evaluation=shown).mean("seed").values
    rows, columns = values.shape
    side = float(np.clip(0.42 * columns, 3.2, 6.0))
    fig, axes = figure(side + 1.6, float(np.clip(0.34 * rows, 2.6, 5.6)) + 0.8)
    axes.grid(False)
    axes.set_facecolor("#EDEDED")
    image = axes.imshow(
        values, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="nearest" if rows <= 400 else "antialiased"
    )
    image.set_rasterized(rows * columns > 400)
    steps = found["evaluation_step"].values[shown]
    marks = np.unique(np.linspace(0, rows - 1, min(rows, 11)).round().astype(int))
    axes.set_yticks(marks, ["untrained" if steps[row] < 0 else str(steps[row]) for row in marks])
    across = np.unique(np.linspace(0, columns - 1, min(columns, 11)).round().astype(int))
    axes.set_xticks(across, [str(task) for task in across])
    if rows * columns <= 170:
        for (row, task), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "white" if value < 0.6 else INK
                axes.text(
                    task, row, f"{value:.2f}"[1:] if value < 1 else "1", ha="center", va="center", color=ink, fontsize=7
                )
    axes.set(xlabel="tested on task", ylabel="after experience")
    if len(shown) < found.sizes["evaluation"]:
        axes.set_ylabel(f"after experience ({rows} of {found.sizes['evaluation']} rows: tests of all tasks met)")
    titled(fig, axes, run.strategy, f"accuracy, {_seeds([run])}")
    bar = fig.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    return fig


@styled
def accuracy_over_stream(runs: Sequence[Run]) -> Figure:
    """Return ACC over the experiences, with its 95 % confidence band over seeds, several runs in one picture."""
    fig, axes = _score_over_stream(runs, "acc")
    axes.set(ylabel="ACC", ylim=(0, 1.02))
    axes.set_title(f"Mean accuracy on the tasks met so far, {_seeds(runs)}")
    return fig


@styled
def forgetting_over_stream(runs: Sequence[Run]) -> Figure:
    """Return forgetting over the experiences, with its 95 % confidence band over seeds."""
    fig, axes = _score_over_stream(runs, "forgetting")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(ylabel="forgetting")
    axes.set_title(f"Forgetting of earlier tasks, {_seeds(runs)}")
    return fig


@styled
def tasks_over_stream(run: Run) -> Figure:
    """Return the accuracy of each task over the experiences, from when it was learned; mean over seeds."""
    found = run.results
    values, steps, learned = found["accuracy"].mean("seed").values, found["evaluation_step"].values, run.learned
    fig, axes = figure()
    tasks = np.flatnonzero(learned >= 0)
    picked = tasks if len(tasks) <= MANY else tasks[np.linspace(0, len(tasks) - 1, 6).round().astype(int)]
    if len(tasks) > MANY:
        seen = np.where((learned[None, :] >= 0) & (learned[None, :] <= steps[:, None]), values, np.nan)
        full = np.flatnonzero(np.isfinite(found["acc"].values).any(axis=1))
        if len(full):
            low, middle, high = (np.nanquantile(seen[full], share, axis=1) for share in (0.1, 0.5, 0.9))
            axes.fill_between(steps[full] + 1, low, high, color=PALE, alpha=0.5, label="80 % of the tasks met")
            axes.plot(steps[full] + 1, middle, color=INK, linewidth=1.6, label="median task")
    shades = _shades(len(picked))
    for task, shade in zip(picked, shades, strict=True):
        since = (steps >= learned[task]) & np.isfinite(values[:, task])
        name = f"{task} {found['task_name'].values[task]}"
        style: dict[str, Any] = {"marker": "o", "markersize": 2.5} if since.sum() <= 40 else {}
        axes.plot(steps[since] + 1, values[since, task], color=shade, linewidth=1.3, label=plain(name, 24), **style)
    axes.set(xlabel="experiences learned", ylabel="accuracy", ylim=(0, 1.02))
    titled(fig, axes, run.strategy, f"each task since it was learned, {_seeds([run])}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig


@styled
def memory_over_stream(run: Run, beside: Sequence[Run] = ()) -> Figure:
    """Return the bytes one seed holds over the experiences, by part; with the line of keeping a net a task beside it."""
    found = run.results
    held = found["memory"].values
    unit, name = _unit(float(held.sum(axis=1).max(initial=1)))
    fig, axes = figure()
    x = np.arange(1, len(held) + 1)
    parts = [plain(str(part), 24) for part in found["part"].values]
    axes.stackplot(
        x, (held / unit).T, labels=parts, colors=[colour(k) for k in range(len(parts))], alpha=0.85, linewidth=0
    )
    other = reference(run, beside, "independent")
    if other is not None and other is not run:
        whole = other.results["memory"].sum("part").values / unit
        axes.plot(
            np.arange(1, len(whole) + 1), whole, color=INK, linestyle="--", linewidth=1.2, label="a net kept a task"
        )
    axes.set(xlabel="experiences learned", ylabel=f"memory of one seed ({name})")
    axes.set_ylim(bottom=0)
    titled(fig, axes, run.strategy, "memory by part")
    whole_numbers(axes)
    legend(fig, axes)
    return fig


@styled
def memory_of_runs(runs: Sequence[Run]) -> Figure:
    """Return the bytes one seed holds over the experiences, a line a run."""
    fig, axes = figure()
    totals = [run.results["memory"].sum("part").values for run in runs]
    unit, name = _unit(float(max((total.max(initial=1) for total in totals), default=1)))
    for number, (called, total) in enumerate(zip(names_of(runs), totals, strict=True)):
        x = np.arange(1, len(total) + 1)
        axes.plot(x, total / unit, color=colour(number), label=plain(called), **_marks(number, len(x)))
    axes.set(xlabel="experiences learned", ylabel=f"memory of one seed ({name})")
    axes.set_ylim(bottom=0)
    axes.set_title("Memory growth")
    whole_numbers(axes)
    legend(fig, axes)
    return fig


@styled
def accuracy_against_memory(runs: Sequence[Run]) -> Figure:
    """Return ACC at the end against the bytes one seed then holds; up and to the left is better."""
    fig, axes = figure()
    for number, (run, name) in enumerate(zip(runs, names_of(runs), strict=True)):
        summary = summarised(run)
        half = summary.acc.half_width
        axes.errorbar(
            [summary.memory],
            [summary.acc.mean],
            yerr=[half] if np.isfinite(half) else None,
            marker=mark(number),
            color=colour(number),
            linestyle="",
            capsize=2,
            label=plain(name),
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, place: size(value))
    axes.xaxis.set_minor_formatter(lambda value, place: "")
    axes.set(xlabel="memory of one seed at the end (logarithmic)", ylabel="ACC", ylim=(0, 1.02))
    axes.set_title(f"Accuracy against memory at the end, {_seeds(runs)}")
    legend(fig, axes)
    return fig


@styled
def seconds_of_runs(runs: Sequence[Run]) -> Figure:
    """Return the seconds of each run by phase, as bars."""
    summaries = [summarised(run) for run in runs]
    fig, axes = figure(height=0.32 * len(runs) + 1.5)
    left = np.zeros(len(runs))
    y = np.arange(len(runs))[::-1]
    for number, phase in enumerate(("learn", "evaluate", "save")):
        seconds = np.array([summary.seconds_phases.get(phase, 0.0) for summary in summaries])
        axes.barh(y, seconds, left=left, color=colour(number), label=phase, height=0.65)
        left += seconds
    axes.set_yticks(y, [plain(name) for name in names_of(runs)])
    axes.set_xlabel("seconds, all seeds together")
    axes.set_title("Time by phase")
    axes.grid(axis="y", visible=False)
    legend(fig, axes)
    return fig


@styled
def learning_curves(runs: Sequence[Run]) -> Figure | None:
    """Return test accuracy while learning, the mean over experiences and seeds; None if it was not measured."""
    fig, axes = figure()
    units: set[str] = set()
    for number, (run, name) in enumerate(zip(runs, names_of(runs), strict=True)):
        curve = learning_curve(run)
        if curve is None:
            continue
        unit, x, values = curve
        _line(axes, x, values, number, name)
        units.add(unit)
    axes.set(
        xlabel=f"{' or '.join(sorted(units))} of an experience", ylabel="test accuracy on the task", ylim=(0, 1.02)
    )
    axes.set_title(f"Learning a task, mean over experiences, {_seeds(runs)}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig if units else None


@styled
def transfer(runs: Sequence[Run]) -> Figure | None:
    """Return R[j, j] less that of the ``independent`` run, a line a run; None where there is no such run."""
    fig, axes = figure()
    drawn = False
    for number, (run, name) in enumerate(zip(runs, names_of(runs), strict=True)):
        other = reference(run, runs, "independent")
        if other is None or other is run:
            continue
        own, alone = (
            metrics.diagonal(r.results["accuracy"].values, r.results["evaluation_step"].values, r.learned)
            for r in (run, other)
        )
        shared = min(len(own), len(alone))
        _line(axes, np.arange(shared), own[:shared] - alone[:shared], number, name)
        drawn = True
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="task", ylabel="accuracy gained")
    axes.set_title(f"Accuracy right after learning, against a net of its own, {_seeds(runs)}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig if drawn else None


def _rows_to_show(run: Run) -> np.ndarray:
    """Return the rows of R that make a picture: all, or of many the untrained one and those that tested all tasks met."""
    full = np.isfinite(run.results["acc"].values).any(axis=1) | (run.results["evaluation_step"].values < 0)
    some = len(full) > MANY_ROWS and full.sum() >= 3
    return np.flatnonzero(full) if some else np.arange(len(full))


def _score_over_stream(runs: Sequence[Run], score: str) -> tuple[Figure, Axes]:
    fig, axes = figure()
    for number, (run, name) in enumerate(zip(runs, names_of(runs), strict=True)):
        steps, values = run.results["evaluation_step"].values, run.results[score].values
        measured = np.isfinite(values).any(axis=1)
        _line(axes, steps[measured] + 1, values[measured], number, name)
    axes.set_xlabel("experiences learned")
    whole_numbers(axes)
    legend(fig, axes)
    return fig, axes


def _line(axes: Axes, x: np.ndarray, values: np.ndarray, number: int, name: str) -> None:
    """Draw the mean over the last axis (seeds) and its 95 % confidence band."""
    mean = values.mean(axis=1)
    axes.plot(x, mean, color=colour(number), label=plain(name), linewidth=1.5, **_marks(number, len(x)))
    if values.shape[1] > 1:
        half = interval(values)
        axes.fill_between(x, mean - half, mean + half, color=colour(number), alpha=0.15, linewidth=0)


def _marks(number: int, points: int) -> dict[str, Any]:
    return {"marker": mark(number), "markersize": 4, "markevery": max(1, points // 12)}


def _shades(count: int) -> list[tuple[float, float, float, float]]:
    return [colormaps["viridis"](0.9 * k / max(1, count - 1)) for k in range(count)]


def _unit(largest: float) -> tuple[float, str]:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if largest >= unit:
            return unit, name
    return 1.0, "bytes"


def _seeds(runs: Sequence[Run]) -> str:
    counts = sorted({run.results.sizes["seed"] for run in runs})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    return f"{counts[0]} seed{'s' if counts[0] > 1 else ''}"
