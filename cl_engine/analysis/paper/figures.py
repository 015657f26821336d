"""Figures of a paper of runs: scores over the stream and at its end, and forward transfer by task.

Each takes runs and a `Look`: ``labels``, ``title``, ``xlabel``, ``ylabel``, ``xlim``, ``ylim``, ``size``, ``legend``. A strategy
has the same colour in each, and in reports. ``figure.savefig("x.pdf")`` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.paper.look import Drawing, Look, of_paper
from cl_engine.analysis.plots.axes import line
from cl_engine.analysis.plots.style import INK, colour, whole_numbers
from cl_engine.analysis.scores import own_metrics
from cl_engine.analysis.scores.groups import RunGroup, groups_of
from cl_engine.analysis.scores.measures import measure, of_scores
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.of_measure import by_measure
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run


@of_paper
def over_stream(runs: Sequence[Run], score: str = "acc", **look: Unpack[Look]) -> Figure:
    """Return a score after each experience, a line a method with its 95 % band over seeds; of runs on one stream.

    ``score`` is one of ``acc``, ``bwt``, ``fwt`` and ``forgetting``, or a metric that the runs were asked for.

    Raises:
        UsageError: if the runs are on several streams, none has the score, or a name or size is none.
    """
    groups = _on_one_stream(runs)
    about = of_scores(measure(score, [group.runs[0] for group in groups]), groups[0].runs[0].measures[0])
    held = _drawing(groups, look, score)
    drawn = False
    for group in groups:
        [run] = group.runs
        if score not in SCORES and score not in run.metrics:
            continue
        values = run.results[score].values if score in SCORES else own_metrics.over_stream(run, score)
        known = np.isfinite(values).any(axis=1) & (run.results["evaluation_step"].values >= 0)
        if known.any():
            x = run.results["evaluation_step"].values[known] + 1
            line(held.axes, x, values[known], held.number[group.method], held.name(group.method))
            drawn = True
    if not drawn:
        raise UsageError(
            f"none of these runs has {about.title} over the stream: {', '.join(SCORES)} are there of every run"
        )
    if about.signed:
        held.axes.axhline(0, color=INK, linewidth=0.8)
    whole_numbers(held.axes)
    title = held.name(score) if held.name(score) != score else about.title
    return held.finished("", "experiences learned", title)


@of_paper
def at_the_end(runs: Sequence[Run], score: str = "acc", **look: Unpack[Look]) -> Figure:
    """Return a score at the end, a group of points a stream and a point a method, with 95 % intervals over seeds and every seed.

    Raises:
        UsageError: if no run has the score, or a name or size is none.
    """
    parts = by_measure(of_seeds(runs))
    groups = [group for group in _groups(parts, score) if np.isfinite(group.values[score]).all()]
    if not groups:
        raise UsageError(f"none of these runs has {measure(score, parts).title}")
    about = of_scores(measure(score, parts), groups[0].runs[0].measures[0])
    streams = list(dict.fromkeys(group.stream for group in groups))
    held = _drawing(groups, look, score)
    methods = list(held.number)
    wide = 0.7 / max(1, len(methods) - 1)
    for group in groups:
        number, values = held.number[group.method], group.values[score]
        x = streams.index(group.stream) + (methods.index(group.method) - (len(methods) - 1) / 2) * wide
        known = held.axes.get_legend_handles_labels()[1]
        name = held.name(group.method)
        held.axes.plot([x] * len(values), values, ".", color=colour(number), alpha=0.35, markersize=4)
        half = interval(values)
        held.axes.errorbar(
            [x],
            [values.mean()],
            yerr=[half] if np.isfinite(half) else None,
            marker="o",
            markersize=5,
            color=colour(number),
            capsize=2,
            linestyle="",
            label="" if name in known else name,
        )
    held.axes.set_xticks(range(len(streams)), [held.name(stream) for stream in streams])
    if len(streams) > 3:
        held.axes.tick_params(axis="x", labelrotation=25)
        for tick in held.axes.get_xticklabels():
            tick.set_horizontalalignment("right")
    held.axes.grid(axis="x", visible=False)
    title = held.name(score) if held.name(score) != score else about.title
    return held.finished("", "", title, xlim=(-0.6, len(streams) - 0.4))


@of_paper
def forward_transfer(runs: Sequence[Run], **look: Unpack[Look]) -> Figure:
    """Return the forward transfer of each task (`Run.forward_transfer`), a line a method, with its 95 % band over seeds.

    Raises:
        UsageError: if the runs are on several streams, none was tested on tasks ahead, or a name or size is none.
    """
    groups = _on_one_stream(runs)
    held = _drawing(groups, look)
    drawn = False
    for group in groups:
        [run] = group.runs
        gained = run.forward_transfer
        known = np.flatnonzero(np.isfinite(gained).all(axis=1))
        if len(known):
            line(held.axes, known, gained[known], held.number[group.method], held.name(group.method))
            drawn = True
    if not drawn:
        raise UsageError(
            "none of these runs was tested on tasks before it learned them: that needs agenda.evaluate_ahead = 1 or more"
        )
    held.axes.axhline(0, color=INK, linewidth=0.8)
    whole_numbers(held.axes)
    return held.finished("", "task", "forward transfer")


def _drawing(groups: Sequence[RunGroup], look: Look, *others: str) -> Drawing:
    strategies = {group.method: group.strategy for group in groups}
    streams = dict.fromkeys(group.stream for group in groups)
    return Drawing(look, list(strategies), [*others, *streams], strategies)


def _groups(runs: Sequence[Run], score: str) -> list[RunGroup]:
    if not runs:
        raise UsageError("a figure needs at least one run")
    measure(score, runs)
    return groups_of(runs, [score])[0]


def _on_one_stream(runs: Sequence[Run]) -> list[RunGroup]:
    """Return the methods of runs on one stream, each as one run with all its seeds."""
    groups = _groups(by_measure(of_seeds(runs)), "acc")
    streams = list(dict.fromkeys(group.stream for group in groups))
    if len(streams) != 1:
        raise UsageError(
            f"a figure over the stream is of one stream, and these runs are on {', '.join(streams) or 'none'}"
        )
    several = next((group for group in groups if len(group.runs) > 1), None)
    if several is not None:
        raise UsageError(
            f"the seeds of {several.method} are in {len(several.runs)} runs that cannot be put together: "
            f"{', '.join(str(run.path) for run in several.runs)}"
        )
    return groups
