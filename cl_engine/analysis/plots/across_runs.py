"""Pictures of several runs together: functions from runs to matplotlib figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of
from cl_engine.analysis.plots.axes import byte_unit, line, log_axis, marks, seeds
from cl_engine.analysis.plots.panels import ACCURACY, Panels, spread
from cl_engine.analysis.plots.style import (
    INK,
    colour,
    figure,
    legend,
    mark,
    numbers_of,
    plain,
    styled,
    titled,
    whole_numbers,
)
from cl_engine.analysis.scores.online import online_scores
from cl_engine.analysis.scores.references import delta_m, reference, scores_when_learned
from cl_engine.analysis.scores.run_scores import Score, learning_curve
from cl_engine.analysis.scores.statistics import front
from cl_engine.core.text import duration, size
from cl_engine.results.of_measure import of_each_measure
from cl_engine.results.run import Run

LEARNED = "experiences learned"
LINES = 16  # most runs drawn as lines or bars; report and documentation say so


@styled
def accuracy_over_stream(runs: Sequence[Run]) -> Figure:
    """Return ACC over the experiences, with its 95 % confidence band over seeds, several runs in one picture.

    Of runs of several measures it has a panel for each, as all pictures here of scores.
    """
    shown = _score_over_stream(runs, "acc")
    shown.named(f"Mean {{}} on the tasks met so far, {_said(runs)}", LEARNED, "ACC")
    return shown.fig


@styled
def forgetting_over_stream(runs: Sequence[Run]) -> Figure:
    """Return forgetting over the experiences, with its 95 % confidence band over seeds."""
    shown = _score_over_stream(runs, "forgetting")
    for axes in shown.of.values():
        axes.axhline(0, color=INK, linewidth=0.8)
    shown.named(f"Forgetting of earlier tasks, {_said(runs)}", LEARNED, "forgetting", levels=False)
    return shown.fig


@styled
def memory_of_runs(runs: Sequence[Run]) -> Figure:
    """Return the bytes one seed holds over the experiences, a line a run."""
    fig, axes = figure()
    totals = {called: run.results["memory"].sum("part").values for _, run, called in _first(runs)}
    unit, name = byte_unit(float(max((total.max(initial=1) for total in totals.values()), default=1)))
    for number, (called, total) in zip((number for number, *_ in _first(runs)), totals.items(), strict=True):
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
    """Return ACC at the end against the bytes one seed then holds, with the front of what no other run beats in both.

    Of runs of several measures it is Δm.
    """
    fig, axes, worth = _accuracy_against(runs, _memory)
    log_axis(axes, "x", size)
    axes.set_xlabel("memory of one seed at the end (logarithmic)")
    titled(fig, axes, "", f"{worth} against memory at the end, {seeds(runs)}")
    return fig


@styled
def accuracy_against_time(runs: Sequence[Run]) -> Figure:
    """Return ACC, or Δm, at the end against the seconds of the run, with the front of what no other run beats in both."""
    fig, axes, worth = _accuracy_against(runs, lambda run: sum(_seconds(run).values()))
    log_axis(axes, "x", duration)
    axes.set_xlabel("time of the run, all seeds together (logarithmic)")
    titled(fig, axes, "", f"{worth} against time, {seeds(runs)}")
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
    """Return the test score while learning, the mean over experiences and seeds; None if it was not measured."""
    shown, units = Panels(runs), set()
    for number, run, name in _first(runs):
        for _, axes, part in shown.of_run(run):
            curve = learning_curve(part)
            if curve is None:
                continue
            unit, x, values = curve
            line(axes, x, values, number, name)
            whole_numbers(axes)
            units.add(unit)
    x_said = f"{' or '.join(sorted(units))} of an experience"
    shown.named(f"Learning a task, mean over experiences, {_said(runs)}", x_said, "test accuracy on the task")
    shown.legend()
    return shown.fig if units else None


@styled
def online_over_stream(runs: Sequence[Run]) -> Figure | None:
    """Return the online score of each experience, with its 95 % confidence band; None if no run has it."""
    shown, drawn = Panels(runs), False
    for number, run, name in _first(runs):
        for _, axes, part in shown.of_run(run):
            scores = online_scores(part)
            known = np.isfinite(scores).any(axis=1)
            if known.any():
                line(axes, np.flatnonzero(known) + 1, scores[known], number, name)
                whole_numbers(axes)
                drawn = True
    shown.named(f"Batches before they are learned, {_said(runs)}", "experience", "online accuracy", levels=False)
    shown.legend()
    return shown.fig if drawn else None


@styled
def transfer(runs: Sequence[Run]) -> Figure | None:
    """Return R[j, j] less that of the ``independent`` run, a line a run; None where there is no such run.

    Where less is better its sign is turned.
    """
    shown, drawn, parts = Panels(runs), False, of_each_measure(runs)
    for number, run, name in _first(runs):
        for measure, axes, part in shown.of_run(run):
            other = reference(part, parts[measure], "independent")
            if other is None or other is part:
                continue
            own, alone = scores_when_learned(part), scores_when_learned(other)
            shared = min(len(own), len(alone))
            gained = part.sign * (own[:shared] - alone[:shared])
            line(axes, part.results["task"].values[:shared], gained, number, name)
            drawn = True
    if not drawn:
        return None
    for axes in shown.of.values():
        axes.axhline(0, color=INK, linewidth=0.8)
        whole_numbers(axes)
    title = f"{{}} right after learning, against a net of its own, {_said(runs)}"
    shown.named(title, "task", "accuracy gained", levels=False)
    shown.legend()
    return shown.fig


def _first(runs: Sequence[Run]) -> list[tuple[int, Run, str]]:
    """Return number, run and name of the runs that are drawn as lines: as many as can be told apart."""
    shown = list(zip(runs, names_of(runs), strict=True))[:LINES]
    numbers = numbers_of([run.strategy for run, _ in shown])
    return [(number, run, name) for number, (run, name) in zip(numbers, shown, strict=True)]


def _said(runs: Sequence[Run]) -> str:
    """Return the number of seeds for a title, and of runs where not all of them are drawn."""
    return seeds(runs) + (f", first {LINES} of {len(runs)} runs" if len(runs) > LINES else "")


def _score_over_stream(runs: Sequence[Run], score: str) -> Panels:
    shown = Panels(runs)
    for number, run, name in _first(runs):
        for _, axes, part in shown.of_run(run):
            steps, values = part.results["evaluation_step"].values, part.results[score].values
            measured = np.isfinite(values).any(axis=1)
            line(axes, steps[measured] + 1, values[measured], number, name)
            whole_numbers(axes)
    shown.legend()
    return shown


def _seconds(run: Run) -> dict[str, float]:
    """Return the seconds of a run by phase, all seeds together."""
    found = run.results
    return {str(name): float(np.nansum(found["seconds"].sel(phase=name))) for name in found["phase"].values}


def _memory(run: Run) -> float:
    """Return the bytes that one seed holds at the end."""
    return float(run.results["memory"].values[-1].sum())


def _accuracy_against(runs: Sequence[Run], price: Callable[[Run], float]) -> tuple[Figure, Axes, str]:
    """Draw a point a run, its 95 % confidence over seeds, and the stairs along the runs that are not dominated.

    Of many runs those of one strategy look the same. What is drawn against the price is returned: ``Accuracy``, the name of
    another measure, or ``Δm`` across several.
    """
    fig, axes = figure()
    points, measures = [], list(dict.fromkeys(measure for run in runs for measure in run.measures))
    way = runs[0].sign if len(measures) == 1 else 1
    names = names_of(runs) if len(runs) <= LINES else [run.strategy for run in runs]
    called = dict(zip(names, (run.strategy for run in runs), strict=True))
    numbers = dict(zip(called, numbers_of(list(called.values())), strict=True))
    for run, name in zip(runs, names, strict=True):
        if run.final is None:
            continue
        worth, number = Score(run.final["acc"].values if len(measures) == 1 else delta_m(run, runs)), numbers[name]
        half, mean, paid = worth.half_width, worth.mean, price(run)
        if not np.isfinite(mean):
            continue
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
    best = front(way * means, paid_)
    if best.sum() > 1:
        axes.step(
            paid_[best], means[best], where="post", color=INK, linewidth=0.9, linestyle=":", label="front", zorder=1
        )
    legend(fig, axes)
    if len(measures) > 1:
        axes.set_ylabel("Δm")
        return fig, axes, "Δm"
    axes.set_ylabel("ACC" if measures == [ACCURACY] else measures[0].title)
    if spread(measures[0], means) == (0.0, 1.0):
        axes.set_ylim(0, 1.02)
    return fig, axes, "Accuracy" if measures == [ACCURACY] else measures[0].name
