"""How pictures look: colours that colour-blind people tell apart, sizes for a page, no state shared between figures."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_engine.analysis.names import one_line

# Okabe & Ito (2008): told apart with any common colour vision, and in grey by their order of lightness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#7F7F7F")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, PALE = "#222222", "#B8B8B8"
SETTINGS: Any = {  # matplotlib's own type for it is a list of all its settings
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "cl-engine",
    "svg.fonttype": "path",
    "text.parse_math": False,
}
FORMATS = ("svg", "png", "pdf")
LETTERS, LETTERS_OF_TITLE = 13.5, 9.7  # to the inch, in the sizes above


P = ParamSpec("P")
T = TypeVar("T")


def styled(picture: Callable[P, T]) -> Callable[P, T]:
    """Make a function draw in the house style, whatever the user's own settings are."""

    @functools.wraps(picture)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(SETTINGS):
            return picture(*args, **kwargs)

    return drawn


def figure(width: float = 6.4, height: float = 3.4) -> tuple[Figure, Axes]:
    """Return an empty figure (inches) with one set of axes."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.add_subplot()


def colour(index: int) -> str:
    """Return the colour of the n-th thing."""
    return COLOURS[index % len(COLOURS)]


def mark(index: int) -> str:
    """Return the marker of the n-th thing; where colours come again it is another one, so that 64 things differ."""
    return MARKS[(index + index // len(COLOURS)) % len(MARKS)]


def legend(fig: Figure, axes: Axes, columns: int = 4) -> None:
    """Put a legend below the axes, where it hides nothing, in as many columns as the names leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    room = int(fig.get_figwidth() * LETTERS) // (max(map(len, labels)) + 6)  # 6: the line and the gap before a name
    columns = max(1, min(columns, len(handles), room))
    rows = -(-len(handles) // columns)
    if rows > 3:  # the axes keep their height
        fig.set_figheight(fig.get_figheight() + 0.19 * (rows - 3))
    fig.legend(handles, labels, loc="outside lower center", ncols=columns)


def titled(fig: Figure, axes: Axes, name: str, text: str) -> None:
    """Give a picture the title ``name: text``, on two lines where one is too short for it."""
    room = int((fig.get_figwidth() - 0.7) * LETTERS_OF_TITLE)
    name = plain(name, room - 1)
    axes.set_title(f"{name}: {text}" if len(name) + len(text) + 2 <= room else f"{name}:\n{text}")


def rendered(fig: Figure, kind: str = "svg") -> bytes:
    """Return a picture as the bytes of an SVG, PNG or PDF file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        # a name may be in a script the font does not have: it shows as boxes, after the number of the task
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        fig.savefig(buffer, format=kind, dpi=200, metadata=dates[kind])
    return buffer.getvalue()


def inline(fig: Figure, title: str) -> str:
    """Return a picture as an ``<svg>`` element to stand in a page, with a title for screen readers.

    Names inside are made unique by the title, so that several pictures can share a page.
    """
    text = rendered(fig).decode()
    text = text[text.index("<svg") :]
    salt = re.sub(r"\W+", "-", title)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{salt}-\1"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', rf"\g<1>{salt}-\2", text)
    return re.sub(r'\swidth="[^"]+" height="[^"]+"', "", text, count=1)


def whole_numbers(axes: Axes, axis: str = "x") -> None:
    """Let an axis have marks at whole numbers only."""
    getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(integer=True, nbins=12))


def plain(text: str, longest: int = 40) -> str:
    """Return a name for a picture: on one line, without control characters, and not longer than it can take.

    What is left out is left out in the middle: names that are alike differ at their end.
    """
    text = one_line(text)
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[len(text) - end :]}"
