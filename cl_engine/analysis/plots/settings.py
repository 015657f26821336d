"""Pictures of a search: the settings of one strategy that were tried, and what each came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_engine.analysis.names import differing
from cl_engine.analysis.plots.axes import heat_map, numbered, seeds
from cl_engine.analysis.plots.style import INK, PALE, colour, figure, legend, plain, styled, titled
from cl_engine.core.text import number
from cl_engine.results.run import Run

FEWEST = 4  # settings of a strategy that make a picture
MOST_OPTIONS = 8  # that have an axis of their own
MARKED = 6  # different values of an option that are all written at its axis
WIDE = 20  # ratio of the greatest to the least value from which on an axis is logarithmic
MOST_VALUES = 12  # of an option along a side of a heat map
FILLED = 0.5  # least share of the cells of a heat map that were tried


@dataclass(frozen=True)
class Tried:
    """The settings of a strategy that were tried.

    >>> Tried({"train.lr": ["0.1", "0.01"]}, np.array([0.9, 0.8]), "ACC on test rows", True, "1 seed").order
    [1, 0]

    Attributes:
        options: those in which runs differ, each with its value in every run as text; "" where a run does not have it.
        scores: of each run at its end, the mean over seeds ``[n]``.
        called: what they are scores of, and on which rows.
        higher: whether more is better.
        seeds: how many seeds they have, in words.
    """

    options: dict[str, list[str]]
    scores: np.ndarray
    called: str
    higher: bool
    seeds: str

    @property
    def order(self) -> list[int]:
        """The runs from the worst to the best."""
        return [int(k) for k in np.argsort(self.scores if self.higher else -self.scores, kind="stable")]


def searched(runs: Sequence[Run]) -> list[str]:
    """Return the strategies among runs of one scenario of which so many settings were tried that a picture tells something."""
    names = dict.fromkeys(run.strategy for run in runs)
    return [name for name in names if tried(runs, name) is not None]


def tried(runs: Sequence[Run], strategy: str) -> Tried | None:
    """Return the settings of a strategy, with scores on validation rows where all runs have them, else on test rows.

    None where fewer than four were measured, or tasks are measured by several things.
    """
    own = [run for run in runs if run.strategy == strategy and run.final is not None]
    if len(own) < FEWEST or len({measure for run in own for measure in run.measures}) > 1:
        return None
    validated = [run.validated("acc") for run in own]
    held = [values for values in validated if values is not None]
    on_validation = len(held) == len(own)
    scores = [float(np.mean(v)) for v in (held if on_validation else [run.final["acc"].values for run in own])]  # type: ignore[index]
    kept = [k for k, score in enumerate(scores) if math.isfinite(score)]
    options = differing([own[k] for k in kept])
    options.pop("seeds", None)
    if not options or len(set(zip(*options.values(), strict=True))) < FEWEST:
        return None
    first = sorted(options, key=lambda key: -len(set(options[key])))[:MOST_OPTIONS]
    measure = own[0].measures[0]
    called = (
        f"{'ACC' if measure.name == 'accuracy' else measure.title} on {'validation' if on_validation else 'test'} rows"
    )
    shown = {key: options[key] for key in options if key in first}
    return Tried(shown, np.array([scores[k] for k in kept]), called, measure.higher, seeds([own[k] for k in kept]))


@styled
def parallel_coordinates(runs: Sequence[Run], strategy: str) -> Figure | None:
    """Return the settings of a strategy as lines across an axis an option, the last axis the score (Inselberg 1985).

    The best line stands out, then the best quarter. Axes of numbers are logarithmic where their ends are far apart; values that
    are no numbers stand in the order in which they come. None where there is no search to be seen.
    """
    found = tried(runs, strategy)
    if found is None:
        return None
    fig, axes = figure(6.4, 3.6)
    heights = [_axis(axes, place, values) for place, values in enumerate(found.options.values())]
    low, high = float(found.scores.min()), float(found.scores.max())
    width = (high - low) or 1.0
    heights.append([(score - low) / width if high > low else 0.5 for score in found.scores.tolist()])
    last = len(found.options)
    _ticks(axes, last, [(0.0, number(low)), (1.0, number(high))] if high > low else [(0.5, number(low))])
    order, labelled = found.order[::-1], set()
    for rank, run in enumerate(order):
        kind = "best" if rank == 0 else "best quarter" if rank < math.ceil(len(order) / 4) else "others"
        look = {"best": (colour(1), 2.6, 4), "best quarter": (colour(0), 1.3, 3), "others": (PALE, 0.8, 2)}[kind]
        label = kind if kind not in labelled else None
        labelled.add(kind)
        axes.plot(
            range(last + 1),
            [own[run] for own in heights],
            color=look[0],
            linewidth=look[1],
            zorder=look[2],
            label=label,
        )
    axes.grid(False)
    axes.set(xlim=(-0.1, last + 0.45), ylim=(-0.06, 1.06), yticks=[])
    longest = max(8, 60 // (last + 1))
    axes.set_xticks(
        range(last + 1), [*(plain(short(key, found.options), longest) for key in found.options), found.called]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    titled(fig, axes, strategy, f"{len(order)} settings, {found.seeds}")
    legend(fig, axes)
    return fig


@styled
def two_options(runs: Sequence[Run], strategy: str) -> Figure | None:
    """Return the score of a strategy's settings over two of its options as a heat map, the best over what else was varied.

    The two are those of the most values. None with fewer than two, or where values were drawn so that few of their
    combinations were tried.
    """
    found = tried(runs, strategy)
    if found is None:
        return None
    sizes = {key: len(set(values)) for key, values in found.options.items() if 1 < len(set(values)) <= MOST_VALUES}
    if len(sizes) < 2:
        return None
    across, down = sorted(sizes, key=lambda key: -sizes[key])[:2]
    columns, rows = (_sorted(found.options[key]) for key in (across, down))
    cells = np.full((len(rows), len(columns)), np.nan)
    for run in found.order:  # the best comes last, and stays
        cells[rows.index(found.options[down][run]), columns.index(found.options[across][run])] = found.scores[run]
    if np.isfinite(cells).mean() < FILLED:
        return None
    fig, axes = figure(min(6.4, 2.6 + 0.6 * len(columns)), min(5.5, 1.6 + 0.4 * len(rows)))
    low, high = float(found.scores.min()), float(found.scores.max())
    ends = (low, high) if high > low else (low - 0.5, high + 0.5)
    heat_map(fig, axes, cells, *ends, found.called, "viridis" if found.higher else "viridis_r", cells=cells)
    numbered(axes, "x", [plain(value or "–", 10) for value in columns], MOST_VALUES)
    numbered(axes, "y", [plain(value or "–", 16) for value in rows], MOST_VALUES)
    axes.set(xlabel=plain(short(across, found.options)), ylabel=plain(short(down, found.options)))
    others = "" if len(found.options) == 2 else ", best over the rest"
    both = f"{plain(short(across, found.options), 16)} and {plain(short(down, found.options), 16)}"
    titled(fig, axes, strategy, f"{both}{others}, {found.seeds}")
    return fig


def placed(values: Sequence[str]) -> list[float]:
    """Return where each of the values of an option is on its axis, from 0 to 1."""
    at = _places(values)
    return [at[value] for value in values]


def _places(values: Sequence[str]) -> dict[str, float]:
    different = _sorted(values)
    numbers = _numbers(different)
    if len(different) == 1:
        at = {different[0]: 0.5}
    elif numbers is None:
        at = {value: k / (len(different) - 1) for k, value in enumerate(different)}
    else:
        wide = min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE
        levels = [math.log(value) for value in numbers] if wide else numbers
        at = {
            value: (level - levels[0]) / ((levels[-1] - levels[0]) or 1.0)
            for value, level in zip(different, levels, strict=True)
        }
    return at


def _axis(axes: Axes, place: int, values: Sequence[str]) -> list[float]:
    """Return where the values of an option are on its axis, from 0 to 1, and write some of them beside it."""
    at, different = _places(values), _sorted(values)
    marks = different if len(different) <= MARKED else [different[0], different[-1]]
    _ticks(axes, place, [(at[value], plain(value or "–", 10)) for value in marks])
    return [at[value] for value in values]


def _ticks(axes: Axes, place: int, marks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(place, color=INK, linewidth=0.8, zorder=1)
    for height, text in marks:
        axes.annotate(
            text,
            (place, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            zorder=5,
            bbox={"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )


def _sorted(values: Sequence[str]) -> list[str]:
    """Return the different values: numbers by size, others in the order in which they come."""
    different = list(dict.fromkeys(values))
    numbers = _numbers(different)
    return different if numbers is None else [different[k] for k in np.argsort(numbers, kind="stable")]


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        found = [float(value) for value in values]
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def short(key: str, keys: dict[str, list[str]]) -> str:
    """Return the last part of a dotted name, or the whole where another option ends alike."""
    last = key.rpartition(".")[2]
    return key if sum(other.rpartition(".")[2] == last for other in keys) > 1 else last
