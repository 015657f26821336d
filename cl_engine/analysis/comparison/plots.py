"""Pictures of a comparison: the critical-difference diagram, and fronts of accuracy against memory and time."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cl_engine.analysis.comparison.compare import Comparison
from cl_engine.analysis.comparison.seeds import ALPHA
from cl_engine.analysis.plots.style import LETTERS, PALE, colour, mark, numbers_of, plain, styled
from cl_engine.analysis.scores.statistics import bootstrap, front
from cl_engine.core.text import duration, size

NAME = 30  # most letters of a name
PANELS = 9  # more streams than this are shown as their mean, in one panel


@styled
def critical_difference(comparison: Comparison, test: str = "") -> Figure | None:
    """Return average ranks over streams on a line, with bars over methods that do not differ significantly.

    As Demšar (2006, fig. 1) draws them; bars by signed-rank tests over streams with Holm's correction (Benavoli et al.
    2016). The ruler is Nemenyi's critical difference. None where there are no ranks. ``test`` names
    another test that the ranking's groups are of.
    """
    ranking = comparison.ranking
    if ranking is None:
        return None
    k = len(ranking.methods)
    rows = math.ceil(k / 2)
    bars = _levels(ranking.groups)
    top, step, gap = 0.62, 0.26, 0.14  # inches: above the scale, between two names, between two bars
    drop = 0.22 + gap * (max(bars, default=-1) + 1)
    height = top + drop + step * rows + 0.3
    names = [plain(name, NAME) for name in ranking.methods]
    side = max(1.75, 0.95 + max(map(len, names)) / LETTERS)  # inches beside the scale: the longest name and its rank
    left, right, width = side, side + 3.0, 2 * side + 3.0
    fig = Figure(figsize=(width, height))
    axes = fig.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(-height + top, top))

    def at(rank: float) -> float:
        return left + (rank - 1) / max(1, k - 1) * (right - left)

    shades = _shades(comparison)
    ink = axes.xaxis.label.get_color()
    axes.plot([left, right], [0, 0], color=ink, linewidth=1)
    for tick in range(1, k + 1):
        axes.plot([at(tick)] * 2, [0, 0.08], color=ink, linewidth=1)
        axes.text(at(tick), 0.12, str(tick), ha="center", va="bottom", fontsize=8, color=ink)
    for (first, last), level in zip(ranking.groups, bars, strict=True):
        y = -0.16 - gap * level
        axes.plot([at(ranking.ranks[first]) - 0.05, at(ranking.ranks[last]) + 0.05], [y, y], color=ink, linewidth=3.2)
    for place, (name, rank) in enumerate(zip(names, ranking.ranks, strict=True)):
        on_left = place < rows
        y = -drop - step * (place if on_left else k - 1 - place)
        edge, align = (left - 0.25, "right") if on_left else (right + 0.25, "left")
        axes.plot([at(rank), at(rank), edge], [0, y, y], color=colour(shades[ranking.methods[place]]), linewidth=1)
        label = f"{name}  {rank:.2f}" if on_left else f"{rank:.2f}  {name}"
        axes.text(edge + (-0.05 if on_left else 0.05), y, label, ha=align, va="center", fontsize=8.5, color=ink)
    axes.set_title("")
    axes.text(
        0.12, top - 0.1, f"Average rank by {comparison.by.title}, {ranking.streams} streams", va="top", weight="bold"
    )
    wide = ranking.critical_difference / max(1, k - 1) * (right - left)
    if math.isfinite(wide) and wide <= right - left:
        axes.plot([left, left + wide], [0.31, 0.31], color=ink, linewidth=1, marker="|")
        axes.text(
            left + wide + 0.08, 0.31, f"CD {ranking.critical_difference:.2f}", va="center", fontsize=7.5, color=ink
        )
    axes.text(0.12, -height + top + 0.1, _below(comparison, test), va="bottom", fontsize=7.5, color=ink)
    return fig


@styled
def pareto(comparison: Comparison, cost: str = "memory") -> Figure | None:
    """Return ACC, or Δm, against ``memory`` (bytes a seed) or ``seconds`` (a seed), a panel a stream, with the front as a line.

    Lines are 95 % bootstrap intervals of ACC over seeds. Of more than nine streams it is the mean over those that all
    methods have. None if nothing has been measured.
    """
    panels = _panels(comparison, cost)
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    fig = Figure(figsize=(6.4 if columns < 3 else 7.4, 1.2 + 2.1 * rows), layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False, sharey=True)
    shades = _shades(comparison)
    for axes, (title, points) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, points, shades, cost)
        axes.set_title(plain(title, 64 // columns), fontsize=9)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(comparison.gain.title)
    for at, axes in enumerate(list(grid.flat)[: len(panels)]):
        if at + columns >= len(panels):
            axes.set_xlabel("memory a seed holds" if cost == "memory" else "time of a seed")
    shown = [name for name in comparison.methods if any(point[0] == name for held in panels.values() for point in held)]
    handles = [
        Line2D([], [], linestyle="", marker=mark(shades[name]), color=colour(shades[name]), label=plain(name, 36))
        for name in shown
    ]
    room = max(1, int(fig.get_figwidth() * LETTERS) // (max(len(plain(name, 36)) for name in shown) + 6))
    across = min(4, len(shown), room)
    fig.set_figheight(fig.get_figheight() + 0.19 * math.ceil(len(shown) / across))
    fig.legend(handles=handles, loc="outside lower center", ncols=across)
    what = "Accuracy" if comparison.gain.title == "ACC" else comparison.gain.title
    fig.suptitle(
        f"{what} against {'memory' if cost == 'memory' else 'time'}, {_seeds(comparison)}; filled: on the front",
        weight="bold",
    )
    return fig


def _shades(comparison: Comparison) -> dict[str, int]:
    """Return the number of the colour and marker of each method: those of its strategy."""
    strategies = {case.method: case.strategy for case in comparison.groups}
    return dict(zip(strategies, numbers_of(list(strategies.values())), strict=True))


Point = tuple[str, float, float, float, float, bool]  # method, cost, ACC or Δm, its interval, on the front


def _panels(comparison: Comparison, cost: str) -> dict[str, list[Point]]:
    held: dict[str, list[Point]] = {}
    level: dict[str, list[Point]] = {}  # without the cases that are behind: no mean of theirs is beside the others'
    furthest = comparison.table.groupby("stream")["experiences"].max()
    flag = "memory_front" if cost == "memory" else "time_front"
    for case, on_front in zip(comparison.groups, comparison.table[flag], strict=True):
        gained, spent = float(case.values[comparison.gain.name].mean()), float(case.values[cost].mean())
        if math.isfinite(gained) and math.isfinite(spent):
            low, high = bootstrap(case.values[comparison.gain.name])
            point = (case.method, spent, gained, low, high, bool(on_front))
            held.setdefault(case.stream, []).append(point)
            if case.experiences == furthest[case.stream]:
                level.setdefault(case.stream, []).append(point)
    if len(held) <= PANELS or not level:
        return held if len(held) <= PANELS else {}
    common = set.intersection(*({point[0] for point in points} for points in level.values()))
    by_method = {name: [p for points in level.values() for p in points if p[0] == name] for name in common}
    means = {name: np.mean([point[1:3] for point in points], axis=0) for name, points in by_method.items()}
    if not means:
        return {}
    names = [name for name in comparison.methods if name in means]
    way = 1 if comparison.gain.higher else -1
    best = front(way * np.array([means[name][1] for name in names]), np.array([means[name][0] for name in names]))
    points: list[Point] = []
    for name, on in zip(names, best, strict=True):
        spent, accuracy = map(float, means[name])
        points.append(
            (name, spent, accuracy, math.nan, math.nan, bool(on))
        )  # seeds of a stream say nothing of a mean of streams
    return {f"mean of {len(level)} streams": points}


def _panel(axes: Axes, points: list[Point], shades: dict[str, int], cost: str) -> None:
    on_front = sorted((point[1], point[2]) for point in points if point[5])
    if on_front:
        x, y = zip(*on_front, strict=True)
        axes.step(x, y, where="post", color=PALE, linewidth=1, zorder=1)
    for name, spent, accuracy, low, high, best in points:
        shade = shades[name]
        if math.isfinite(low):
            axes.plot([spent, spent], [low, high], color=colour(shade), linewidth=1)
        axes.plot(
            [spent],
            [accuracy],
            linestyle="",
            marker=mark(shade),
            markersize=6,
            color=colour(shade),
            markerfacecolor=colour(shade) if best else "none",
        )
    costs = [point[1] for point in points]
    if min(costs) > 0:
        axes.set_xscale("log")
        low, high = min(costs), max(costs)
        if high < 10 * low:  # a decade is in view, so that at least one tick is
            middle = math.sqrt(low * high)
            axes.set_xlim(middle / 4, middle * 4)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    said = size if cost == "memory" else duration
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: said(value)))
    axes.tick_params(axis="x", labelsize=7.5)


def _levels(groups: tuple[tuple[int, int], ...]) -> list[int]:
    """Return for each bar the lowest line on which it meets no other."""
    ends: list[int] = []
    found = []
    for first, last in groups:
        level = next((k for k, end in enumerate(ends) if end < first), len(ends))
        ends[level : level + 1] = [last]
        found.append(level)
    return found


def _below(comparison: Comparison, test: str = "") -> str:
    ranking = comparison.ranking
    assert ranking is not None
    tested = f"({test or 'Wilcoxon over streams, Holm'}, {ALPHA:.0%})"
    said = [f"Bars: no significant difference {tested}." if ranking.groups else f"All differ significantly {tested}."]
    if math.isfinite(ranking.friedman):
        said.append(f"Friedman p = {ranking.friedman:.2g}.")
    if math.isfinite(ranking.critical_difference):
        said.append(f"Nemenyi's CD = {ranking.critical_difference:.2f}.")
    return " ".join(said)


def _seeds(comparison: Comparison) -> str:
    counts = sorted({len(case.seeds) for case in comparison.groups})
    text = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {text} seed{'s' if counts != [1] else ''}"
