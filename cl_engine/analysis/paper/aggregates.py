"""Figures of a paper over several streams: interquartile means, performance profiles, probabilities of improvement, ranks.

The first three are those of Agarwal et al. (2021), with stratified bootstrap intervals (`cl_engine.analysis.scores.robust`).
Streams on which a method is missing are left out; scores should be comparable across streams, as accuracies are.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.comparison.compare import Comparison, compared
from cl_engine.analysis.comparison.labels import Labels, renamed
from cl_engine.analysis.comparison.plots import critical_difference as diagram
from cl_engine.analysis.paper.look import Drawing, Look, of_paper
from cl_engine.analysis.plots.style import INK, colour
from cl_engine.analysis.scores.robust import Estimate, iqm, performance_profile, probability_of_improvement
from cl_engine.analysis.scores.statistics import Ranking, stretches
from cl_engine.errors import UsageError, unknown
from cl_engine.results.run import Run

LEVELS = 101  # of a score, along a performance profile
Test = Literal["wilcoxon", "nemenyi", "conover", "siegel"]
TESTS = {
    "nemenyi": "posthoc_nemenyi_friedman",
    "conover": "posthoc_conover_friedman",
    "siegel": "posthoc_siegel_friedman",
}
Strata = dict[str, list[np.ndarray]]  # of each method its values by seed, stream by stream


def strata_of(comparison: Comparison) -> tuple[Strata, list[str]]:
    """Return the values of each method on the streams on which all are measured, as far along, and these streams.

    Raises:
        UsageError: if there is no such stream.
    """
    name, held = comparison.by.name, comparison.groups
    furthest = {stream: max(g.experiences for g in held if g.stream == stream) for stream in comparison.streams}
    values = {
        (g.method, g.stream): g.values[name]
        for g in held
        if g.experiences == furthest[g.stream] and np.isfinite(g.values[name]).all()
    }
    common = [stream for stream in comparison.streams if all((m, stream) in values for m in comparison.methods)]
    if not common:
        raise UsageError(
            f"there is no stream on which all of {', '.join(comparison.methods)} have {comparison.by.title}: leave out some runs"
        )
    return {m: [values[m, stream] for stream in common] for m in comparison.methods}, common


@of_paper
def interquartile_means(runs: Sequence[Run], score: str = "acc", **look: Unpack[Look]) -> Figure:
    """Return the interquartile mean of each method over all seeds and streams, with its 95 % interval, the best on top.

    Raises:
        UsageError: if there is no stream that all methods have, or a score, name or size is none.
    """
    comparison = compared(runs, score)
    strata, streams = strata_of(comparison)
    found = {method: iqm(values) for method, values in strata.items()}
    order = sorted(found, key=lambda method: float(found[method].value), reverse=not comparison.by.higher)
    held = _drawing(comparison, look, score)
    held.tall(0.3 * len(order) + 1.2)
    for place, method in enumerate(order):
        _interval(held, place, found[method], method)
    held.axes.set_yticks(range(len(order)), [held.name(method) for method in order])
    held.axes.set_ylim(-0.6, len(order) - 0.4)
    held.axes.grid(axis="y", visible=False)
    return held.finished("", f"IQM of {_title(held, comparison)}, {_over(streams)}", "")


@of_paper
def performance_profiles(runs: Sequence[Run], score: str = "acc", **look: Unpack[Look]) -> Figure:
    """Return for each method the share of seeds, over all streams, whose score is better than what stands on the axis.

    With pointwise 95 % bands. A line above another everywhere is better at all levels.

    Raises:
        UsageError: as `interquartile_means`.
    """
    comparison = compared(runs, score)
    strata, streams = strata_of(comparison)
    every = np.concatenate([values for own in strata.values() for values in own])
    edge = 0.02 * float(np.ptp(every) or 1)
    levels = np.linspace(every.min() - edge, every.max() + edge, LEVELS)
    held = _drawing(comparison, look, score)
    for method, values in strata.items():
        found, shade = performance_profile(values, levels, comparison.by.higher), colour(held.number[method])
        held.axes.plot(levels, found.value, color=shade, label=held.name(method), drawstyle="steps-post")
        held.axes.fill_between(levels, found.low, found.high, color=shade, alpha=0.15, linewidth=0, step="post")
    way = ">" if comparison.by.higher else "<"
    label = f"{_title(held, comparison)} τ, {_over(streams)}"
    return held.finished("", label, f"share of seeds with score {way} τ", ylim=(0, 1.02))


@of_paper
def improvement(runs: Sequence[Run], method: str, score: str = "acc", **look: Unpack[Look]) -> Figure:
    """Return how likely a seed of ``method`` is better than one of each other method, over all streams, with 95 % intervals.

    Raises:
        UsageError: as `interquartile_means`, and for a method that is none or has no other beside it.
    """
    comparison = compared(runs, score)
    strata, streams = strata_of(comparison)
    if method not in strata:
        raise unknown("method", method, strata)
    found = {
        other: probability_of_improvement(strata[method], values, comparison.by.higher)
        for other, values in strata.items()
        if other != method
    }
    if not found:
        raise UsageError(f"there is no method beside {method} that it could be better than")
    held = _drawing(comparison, look, score)
    held.tall(0.3 * len(found) + 1.2)
    order = sorted(found, key=lambda other: float(found[other].value))
    for place, other in enumerate(order):
        _interval(held, place, found[other], other)
    held.axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    held.axes.set_yticks(range(len(order)), [held.name(other) for other in order])
    held.axes.set_ylim(-0.6, len(order) - 0.4)
    held.axes.grid(axis="y", visible=False)
    what = f"P({held.name(method)} better) by {_title(held, comparison)}, {_over(streams)}"
    return held.finished("", what, "", xlim=(-0.02, 1.02))


def critical_difference(
    runs: Sequence[Run], score: str = "acc", test: Test = "wilcoxon", labels: Labels | None = None
) -> Figure:
    """Return the average ranks over streams, with bars over methods that do not differ by a test (Demšar 2006).

    ``test`` is ``wilcoxon`` (signed ranks, corrected by Holm; Benavoli et al. 2016), or a post-hoc test of ``scikit-posthocs``
    after Friedman's: ``nemenyi``, ``conover`` or ``siegel`` (these two corrected by Holm). It is as wide
    as its names are long.

    Raises:
        UsageError: with fewer than two streams or methods, for a test that is none, or without the library it needs.
    """
    if test != "wilcoxon" and test not in TESTS:
        raise unknown("test", test, ["wilcoxon", *TESTS])
    comparison = compared(runs, score)
    ranking = comparison.ranking
    if ranking is None:
        raise UsageError("ranks need two streams, and two methods that are measured on them")
    if test != "wilcoxon":
        ranking = replace(ranking, groups=_groups(comparison, ranking, test))
    name = renamed(labels, [*comparison.methods, *comparison.streams])
    named = replace(
        comparison,
        groups=tuple(replace(group, method=name(group.method)) for group in comparison.groups),
        ranking=replace(ranking, methods=tuple(map(name, ranking.methods))),
    )
    fig = diagram(named, {"nemenyi": "Nemenyi", "conover": "Conover, Holm", "siegel": "Siegel, Holm"}.get(test, ""))
    assert fig is not None  # there are ranks
    return fig


def _groups(comparison: Comparison, ranking: Ranking, test: str) -> tuple[tuple[int, int], ...]:
    """Return which methods next to each other do not differ at 5 %, by a test of scikit-posthocs."""
    try:
        library: Any = importlib.import_module("scikit_posthocs")
    except ImportError:
        raise UsageError(
            f"the test '{test}' needs scikit-posthocs: pip install 'cl-engine[paper]', or take test='wilcoxon'"
        ) from None
    strata, _ = strata_of(comparison)
    means = np.array(
        [[values.mean() for values in strata[method]] for method in ranking.methods]
    ).T  # [streams, methods]
    corrected = {} if test == "nemenyi" else {"p_adjust": "holm"}
    p = np.asarray(getattr(library, TESTS[test])(np.round(means, 12), **corrected))
    count = len(ranking.methods)
    differ = {
        (ranking.methods[a], ranking.methods[b]) for a in range(count) for b in range(a + 1, count) if p[a, b] < 0.05
    }
    return stretches(ranking.methods, differ)


def _interval(held: Drawing, place: int, found: Estimate, method: str) -> None:
    shade = colour(held.number[method])
    if np.isfinite(found.low):
        held.axes.plot([float(found.low), float(found.high)], [place, place], color=shade, linewidth=7, alpha=0.35)
    held.axes.plot([float(found.value)], [place], "|", color=shade, markersize=13, markeredgewidth=2.2)


def _drawing(comparison: Comparison, look: Look, score: str) -> Drawing:
    strategies = {group.method: group.strategy for group in comparison.groups}
    return Drawing(look, comparison.methods, [score, *comparison.streams], strategies)


def _title(held: Drawing, comparison: Comparison) -> str:
    name = comparison.by.name
    return held.name(name) if held.name(name) != name else comparison.by.title


def _over(streams: Sequence[str]) -> str:
    return f"{len(streams)} stream{'s' if len(streams) > 1 else ''}"
