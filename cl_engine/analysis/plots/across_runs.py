"""Pictures of several runs together: functions from runs to matplotlib figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of
from cl_engine.analysis.plots.axes import byte_unit, line, log_axis, marks, seeds
from cl_engine.analysis.plots.style import INK, colour, figure, legend, mark, plain, styled, titled, whole_numbers
from cl_engine.analysis.scores.references import reference
from cl_engine.analysis.scores.run_scores import Score, learning_curve
from cl_engine.analysis.scores.statistics import front
from cl_engine.core.text import duration, size
from cl_engine.metrics import matrix_scores
from cl_engine.results.run import Run

LINES = 16  # most runs drawn as lines or bars; report and documentation say so


@styled
def accuracy_over_stream(runs: Sequence[Run]) -> Figure:
    """Return ACC over the experiences, with its 95 % confidence band over seeds, several runs in one picture."""
    fig, axes = _score_over_stream(runs, "acc")
    axes.set(ylabel="ACC", ylim=(0, 1.02))
    titled(fig, axes, "", f"Mean accuracy on the tasks met so far, {_said(runs)}")
    return fig


@styled
def forgetting_over_stream(runs: Sequence[Run]) -> Figure:
    """Return forgetting over the experiences, with its 95 % confidence band over seeds."""
    fig, axes = _score_over_stream(runs, "forgetting")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(ylabel="forgetting")
    titled(fig, axes, "", f"Forgetting of earlier tasks, {_said(runs)}")
    return fig


@styled
def memory_of_runs(runs: Sequence[Run]) -> Figure:
    """Return the bytes one seed holds over the experiences, a line a run."""
    fig, axes = figure()
    totals = {called: run.results["memory"].sum("part").values for _, run, called in _first(runs)}
    unit, name = byte_unit(float(max((total.max(initial=1) for total in totals.values()), default=1)))
    for number, (called, total) in enumerate(totals.items()):
        x = np.arange(1, len(total) + 1)
        axes.plot(x, total / unit, color=colour(number), label=plain(called), **marks(number, len(x)))
    axes.set(xlabel="experiences learned", ylabel=f"memory of one seed ({name})")
    axes.set_ylim(bottom=0)
    titled(fig, axes, "", f"Memory growth, {_said(runs)}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig


@styled
def accuracy_against_memory(runs: Sequence[Run]) -> Figure:
    """Return ACC at the end against the bytes one seed then holds, with the front of what no other run beats in both."""
    fig, axes = _accuracy_against(runs, _memory)
    log_axis(axes, "x", size)
    axes.set_xlabel("memory of one seed at the end (logarithmic)")
    titled(fig, axes, "", f"Accuracy against memory at the end, {seeds(runs)}")
    return fig


@styled
def accuracy_against_time(runs: Sequence[Run]) -> Figure:
    """Return ACC at the end against the seconds of the run, with the front of what no other run beats in both."""
    fig, axes = _accuracy_against(runs, lambda run: sum(_seconds(run).values()))
    log_axis(axes, "x", duration)
    axes.set_xlabel("time of the run, all seeds together (logarithmic)")
    titled(fig, axes, "", f"Accuracy against time, {seeds(runs)}")
    return fig


@styled
def seconds_of_runs(runs: Sequence[Run]) -> Figure:
    """Return the seconds of each run by phase, as bars."""
    shown = _first(runs)
    fig, axes = figure(height=0.32 * len(shown) + 1.5)
    left = np.zeros(len(shown))
    y = np.arange(len(shown))[::-1]
    for number, phase in enumerate(("learn", "evaluate", "save")):
        seconds = np.array([_seconds(run).get(phase, 0.0) for _, run, _ in shown])
        axes.barh(y, seconds, left=left, color=colour(number), label=phase, height=0.65)
        left += seconds
    axes.set_yticks(y, [plain(name) for _, _, name in shown])
    axes.set_xlabel("seconds, all seeds together")
    titled(fig, axes, "", f"Time by phase, {_said(runs)}")
    axes.grid(axis="y", visible=False)
    legend(fig, axes)
    return fig


@styled
def learning_curves(runs: Sequence[Run]) -> Figure | None:
    """Return test accuracy while learning, the mean over experiences and seeds; None if it was not measured."""
    fig, axes = figure()
    units: set[str] = set()
    for number, run, name in _first(runs):
        curve = learning_curve(run)
        if curve is None:
            continue
        unit, x, values = curve
        line(axes, x, values, number, name)
        units.add(unit)
    axes.set(
        xlabel=f"{' or '.join(sorted(units))} of an experience", ylabel="test accuracy on the task", ylim=(0, 1.02)
    )
    titled(fig, axes, "", f"Learning a task, mean over experiences, {_said(runs)}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig if units else None


@styled
def transfer(runs: Sequence[Run]) -> Figure | None:
    """Return R[j, j] less that of the ``independent`` run, a line a run; None where there is no such run."""
    fig, axes = figure()
    drawn = False
    for number, run, name in _first(runs):
        other = reference(run, runs, "independent")
        if other is None or other is run:
            continue
        own, alone = (
            matrix_scores.diagonal(r.results["score"].values, r.results["evaluation_step"].values, r.learned)
            for r in (run, other)
        )
        shared = min(len(own), len(alone))
        line(axes, np.arange(shared), own[:shared] - alone[:shared], number, name)
        drawn = True
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="task", ylabel="accuracy gained")
    titled(fig, axes, "", f"Accuracy right after learning, against a net of its own, {_said(runs)}")
    whole_numbers(axes)
    legend(fig, axes)
    return fig if drawn else None


def _first(runs: Sequence[Run]) -> list[tuple[int, Run, str]]:
    """Return number, run and name of the runs that are drawn as lines: as many as can be told apart."""
    return [(number, run, name) for number, (run, name) in enumerate(zip(runs, names_of(runs), strict=True))][:LINES]


def _said(runs: Sequence[Run]) -> str:
    """Return the number of seeds for a title, and of runs where not all of them are drawn."""
    return seeds(runs) + (f", first {LINES} of {len(runs)} runs" if len(runs) > LINES else "")


def _score_over_stream(runs: Sequence[Run], score: str) -> tuple[Figure, Axes]:
    fig, axes = figure()
    for number, run, name in _first(runs):
        steps, values = run.results["evaluation_step"].values, run.results[score].values
        measured = np.isfinite(values).any(axis=1)
        line(axes, steps[measured] + 1, values[measured], number, name)
    axes.set_xlabel("experiences learned")
    whole_numbers(axes)
    legend(fig, axes)
    return fig, axes


def _seconds(run: Run) -> dict[str, float]:
    """Return the seconds of a run by phase, all seeds together."""
    found = run.results
    return {str(name): float(np.nansum(found["seconds"].sel(phase=name))) for name in found["phase"].values}


def _memory(run: Run) -> float:
    """Return the bytes that one seed holds at the end."""
    return float(run.results["memory"].values[-1].sum())


def _accuracy_against(runs: Sequence[Run], price: Callable[[Run], float]) -> tuple[Figure, Axes]:
    """Draw a point a run, its 95 % confidence over seeds, and the stairs along the runs that are not dominated.

    Of many runs those of one strategy look the same.
    """
    fig, axes = figure()
    points = []
    names = names_of(runs) if len(runs) <= LINES else [run.strategy for run in runs]
    kinds = list(dict.fromkeys(names))
    for run, name in zip(runs, names, strict=True):
        if run.final is None:
            continue
        acc, number = Score(run.final["acc"].values), kinds.index(name)
        half, mean, paid = acc.half_width, acc.mean, price(run)
        axes.errorbar(
            [paid],
            [mean],
            yerr=[half] if np.isfinite(half) else None,
            marker=mark(number),
            color=colour(number),
            linestyle="",
            capsize=2,
            label="" if name in axes.get_legend_handles_labels()[1] else plain(name),
        )
        points.append((paid, mean))
    paid_, means = np.array(sorted(set(points)), dtype=float).reshape(-1, 2).T
    best = front(means, paid_)
    if best.sum() > 1:
        axes.step(
            paid_[best], means[best], where="post", color=INK, linewidth=0.9, linestyle=":", label="front", zorder=1
        )
    axes.set(ylabel="ACC", ylim=(0, 1.02))
    legend(fig, axes)
    return fig, axes
