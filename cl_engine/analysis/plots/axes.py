"""Building blocks of pictures: a line with its confidence band, a heat map of any size, axes of bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator

from cl_engine.analysis.plots.style import BLANK, ON_DARK_CELL, ON_LIGHT_CELL, colour, mark, plain, whole_numbers
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.results.run import Run

WRITTEN = 170  # cells up to which their numbers are written into them
LEVELS = 32  # of colour in a heat map of many cells, which keeps the picture small
MOST_CELLS = 160  # cells along a side; of more, neighbours are averaged
MOST_POINTS = 500  # points of a line


def line(axes: Axes, x: np.ndarray, values: np.ndarray, number: int, name: str) -> None:
    """Draw the mean over the last axis (seeds) and its 95 % confidence band.

    Of more points than can be told apart, 500 are drawn, evenly spread; of the band half as many.
    """
    at = thinned(len(x))
    mean = values.mean(axis=1)
    axes.plot(x[at], mean[at], color=colour(number), label=plain(name), **marks(number, len(at)))
    if values.shape[1] > 1:
        half, at = interval(values), thinned(len(x), MOST_POINTS // 2)
        axes.fill_between(x[at], (mean - half)[at], (mean + half)[at], color=colour(number), alpha=0.15, linewidth=0)


def bars(
    axes: Axes, middle: np.ndarray, width: np.ndarray, low: np.ndarray, high: np.ndarray, shade: str, name: str
) -> None:
    """Draw upright bars, all of them as one shape, which keeps a picture of hundreds of them small."""
    left, right = middle - width / 2, middle + width / 2
    corners = np.stack([left, low, left, high, right, high, right, low, left, low], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(middle))
    axes.add_patch(PathPatch(Path(corners, codes), facecolor=shade, linewidth=0, label=name))
    axes.autoscale_view()


def marks(number: int, points: int) -> dict[str, Any]:
    """Return how the n-th line is marked: not at every point where there are many."""
    return {"marker": mark(number), "markersize": 4, "markevery": max(1, points // 12)}


def thinned(points: int, most: int = MOST_POINTS) -> np.ndarray:
    """Return the indices of at most ``most`` of the points, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(int))


def seeds(runs: Sequence[Run]) -> str:
    """Return how many seeds the runs have, for a title."""
    counts = sorted({run.results.sizes["seed"] for run in runs})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds"
    return f"{counts[0]} seed{'s' if counts[0] > 1 else ''}"


def byte_unit(largest: float) -> tuple[float, str]:
    """Return the unit in which this number of bytes is a small number, and its name."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if largest >= unit:
            return unit, name
    return 1.0, "bytes"


def log_axis(axes: Axes, axis: str, named: Callable[[float], str]) -> None:
    """Make an axis with something on it logarithmic, its marks named as people read them (`formats`)."""
    getattr(axes, f"set_{axis}scale")("log")
    low, high = (max(end, 1e-9) for end in getattr(axes.dataLim, f"interval{axis}"))
    decades = np.log10(high / low) if np.isfinite(high / low) else 1.0
    found = getattr(axes, f"{axis}axis")
    found.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.7 else (1.0,), numticks=8))
    found.set_major_formatter(lambda value, place: named(value))
    found.set_minor_formatter(lambda value, place: "")


def side(cells: int) -> float:
    """Return the inches that this number of cells takes along a side of a heat map."""
    return float(np.clip(0.42 * cells, 3.2, 5.8))


def heat_map(
    fig: Figure,
    axes: Axes,
    values: np.ndarray,
    low: float,
    high: float,
    label: str,
    colours: str = "viridis",
    written: str = "",
    cells: np.ndarray | None = None,
) -> str:
    """Draw numbers ``[rows, columns]`` as colours from ``low`` to ``high``, nothing where they are NaN.

    Few cells have their numbers written in, in the format ``written``, or those of ``cells`` in two or three figures. Of
    more than 160 along a side the means of neighbours are drawn: then what was averaged is returned as a half
    sentence, to be said on an axis.
    """
    rows, columns = values.shape
    shown, by_row, by_column = averaged(values)
    many = rows * columns > WRITTEN
    shades = (colormaps[colours].resampled(LEVELS) if many else colormaps[colours]).with_extremes(bad=(0, 0, 0, 0))
    axes.grid(False)
    axes.set_facecolor(BLANK)
    extent = (-0.5, shown.shape[1] * by_column - 0.5, shown.shape[0] * by_row - 0.5, -0.5)
    scale = Normalize(low, high)
    image = axes.imshow(
        np.ma.masked_invalid(shown), cmap=shades, norm=scale, aspect="auto", interpolation="none", extent=extent
    )
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if (written or cells is not None) and not many:
        _write(axes, values, shades, scale, values if cells is None else cells, written)
    bar = fig.colorbar(image, ax=axes, fraction=0.05, pad=0.02, label=label)
    bar.outline.set_visible(False)
    return f"means of {by_row} × {by_column} cells" if by_row * by_column > 1 else ""


def numbered(axes: Axes, axis: str, names: Sequence[str], most: int = 11) -> None:
    """Write the names of rows or columns beside a heat map: all, or of many some, evenly spread (round ones if numbers)."""
    if len(names) > most and names[-1] == str(len(names) - 1):
        whole_numbers(axes, axis)
        return
    at = thinned(len(names), most)
    getattr(axes, f"set_{axis}ticks")(at, [names[k] for k in at])


def ink_on(cell: tuple[float, float, float, float]) -> str:
    """Return the colour in which to write on a cell of this colour."""
    red, green, blue, _ = cell
    return ON_LIGHT_CELL if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else ON_DARK_CELL


def averaged(values: np.ndarray, most: int = MOST_CELLS) -> tuple[np.ndarray, int, int]:
    """Return means of blocks, NaN where a block has no number, and the rows and columns of a block."""
    by_row, by_column = (-(-count // most) for count in values.shape)
    if by_row == by_column == 1:
        return values, 1, 1
    rows, columns = (-(-count // by) for count, by in zip(values.shape, (by_row, by_column), strict=True))
    padded = np.full((rows * by_row, columns * by_column), np.nan)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows, by_row, columns, by_column)
    there = np.isfinite(blocks)
    counts = there.sum(axis=(1, 3))
    sums = np.where(there, blocks, 0.0).sum(axis=(1, 3))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), by_row, by_column


def _write(axes: Axes, values: np.ndarray, shades: Colormap, scale: Normalize, cells: np.ndarray, form: str) -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            number = float(cells[row, column])
            own = form or (".2f" if abs(number) < 1 else ".1f" if abs(number) < 10 else ".3g")
            text = re.sub(r"^([+-]?)0\.", r"\1.", f"{number:{own}}")
            text = {"+0": "0", "-0": "0", "-.00": ".00"}.get(text, text)
            ink = ink_on(shades(scale(value)))
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize="small")
