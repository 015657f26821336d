"""The look of pictures: colours that colour-blind people can tell apart, light and dark, sizes for a page."""

from __future__ import annotations

import functools
import io
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_engine.analysis.names import one_line

# Okabe & Ito (2008): told apart with any common colour vision, and in grey by their order of lightness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#7F7F7F")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, PALE, GRID, PAPER, BLANK = "#222222", "#B8B8B8", "#E4E4E4", "#FFFFFF", "#EDEDED"
ON_DARK_CELL, ON_LIGHT_CELL = "#FDFDFD", "#101010"  # numbers written on a colour of the data: the same in both schemes
DARK = {  # what each colour is on a dark page
    INK: "#E3E6EA",
    PALE: "#5A626C",
    GRID: "#343B43",
    PAPER: "#1F2429",
    BLANK: "#2C333B",
    "#0072B2": "#3B8EDB",
    "#D55E00": "#E8731A",
    "#009E73": "#1DB98A",
    "#CC79A7": "#DE92BC",
    "#E69F00": "#F0B030",
    "#56B4E9": "#93D2F6",
    "#6A3D9A": "#A982DC",
    "#7F7F7F": "#A3A3A3",
}
SETTINGS: Any = {  # matplotlib's own type for it is a list of all its settings
    "font.family": "DejaVu Sans",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "cl-engine",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
# the colours of strategies that stand in most pictures, told apart at once
USUAL = {"finetune": 7, "replay": 0, "ewc": 1, "independent": 2, "joint": 3, "packnet": 4, "hat": 5, "lwf": 6}
FORMATS = ("svg", "png", "pdf")
# width in inches and size of the letters in points: on the screen, and as they stand in a paper
SIZES = {"screen": (6.4, 9.0), "column": (3.25, 7.0), "text": (5.5, 8.0), "page": (6.75, 8.5)}
LETTERS, LETTERS_OF_TITLE = 13.5, 9.7  # to the inch, on the screen

_size: ContextVar[str] = ContextVar("size", default="screen")
_letters: WeakKeyDictionary[Figure, float] = WeakKeyDictionary()

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def sized(size: str) -> Iterator[None]:
    """Let pictures drawn inside be as wide as a ``column`` (3.25 in), the ``text`` (5.5 in) or the ``page`` (6.75 in) of a
    paper, with letters to suit; ``screen`` (6.4 in) is what they are otherwise."""
    before = _size.set(size)
    try:
        yield
    finally:
        _size.reset(before)


def styled(picture: Callable[P, T]) -> Callable[P, T]:
    """Make a function draw in the house style, whatever the user's own settings are."""

    @functools.wraps(picture)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(_settings(SIZES[_size.get()][1])):
            return picture(*args, **kwargs)

    return drawn


def figure(width: float = 6.4, height: float = 3.4, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return an empty figure with one set of axes, or several below (and beside) each other; inches on the screen.

    Where another size holds (`sized`), it is that wide, and lower in proportion, but not quite as much.
    """
    whole, letters = SIZES[_size.get()]
    scale = whole / SIZES["screen"][0]
    wide = width if scale == 1 else min(width * scale, whole)
    fig = Figure(figsize=(wide, height * scale**0.75), layout="constrained")
    _letters[fig] = letters
    return fig, fig.add_subplot() if rows * columns == 1 else fig.subplots(rows, columns, sharex=columns == 1)


def colour(index: int) -> str:
    """Return the colour of the n-th thing."""
    return COLOURS[index % len(COLOURS)]


def numbers_of(strategies: Sequence[str]) -> list[int]:
    """Return for each strategy the number of its colour and marker: the same in every picture, wherever it stands.

    A strategy has a place of its own among the 64, told from its name; where two of a picture would have the same colour, the
    later in the alphabet takes the next one that is free. A strategy that stands several times, in other settings, gets more.
    """
    places: list[int | None] = [None] * len(strategies)
    taken: set[int] = set()
    for at in sorted(range(len(strategies)), key=lambda k: (strategies[k] not in USUAL, strategies[k], k)):
        name = strategies[at]
        first = USUAL.get(name, zlib.crc32(name.encode()) % (len(COLOURS) * len(MARKS)))
        colours = {number % len(COLOURS) for number in taken}
        tries = [(first + k) % (len(COLOURS) * len(MARKS)) for k in range(len(COLOURS) * len(MARKS))]
        free = [number for number in tries if number % len(COLOURS) not in colours] or [
            n for n in tries if n not in taken
        ]
        places[at] = free[0] if free else first
        taken.add(places[at])  # type: ignore[arg-type]
    return [place for place in places if place is not None]


def mark(index: int) -> str:
    """Return the marker of the n-th thing; where colours come again it is another one, so that 64 things differ."""
    return MARKS[(index + index // len(COLOURS)) % len(MARKS)]


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Return colours for things in an order, from first to last, that can be seen on a light and on a dark page."""
    return [colormaps["viridis"](0.28 + 0.54 * k / max(1, count - 1)) for k in range(count)]


def legend(fig: Figure, *axes: Axes, columns: int = 4) -> None:
    """Put a legend below the axes, where it hides nothing, in as many columns as the names leave room for."""
    found = {label: handle for each in axes for handle, label in zip(*each.get_legend_handles_labels(), strict=True)}
    handles, labels = list(found.values()), list(found)
    if not handles:
        return
    letters = _letters.get(fig, 9.0)
    room = int(fig.get_figwidth() * LETTERS * 9 / letters) // (max(map(len, labels)) + 6)  # 6: the line and the gap
    columns = max(1, min(columns, len(handles), room))
    rows = -(-len(handles) // columns)
    there = 3 if letters == SIZES["screen"][1] else 1  # rows there is room for; the axes keep their height
    fig.set_figheight(fig.get_figheight() + 0.021 * letters * max(0, rows - there))
    fig.legend(handles, labels, loc="outside lower center", ncols=columns)


def titled(fig: Figure, axes: Axes | None, name: str, text: str) -> None:
    """Give a picture the title ``name: text``, on two lines where one is too short for it; without a name, the text.

    It stands above the axes, or, where there are none, above all of the picture.
    """
    room = int((fig.get_figwidth() - 0.7) * LETTERS_OF_TITLE * 9 / _letters.get(fig, 9.0))
    name = plain(name, room - 1)
    if name:
        text = f"{name}: {text}" if len(name) + len(text) + 2 <= room else f"{name}:\n{text}"
    text = "\n".join(part for line in text.split("\n") for part in _broken(line, room))
    if axes is not None:
        axes.set_title(text)
    else:
        fig.suptitle(text, x=0.01, ha="left", weight="bold", fontsize=mpl.rcParams["axes.titlesize"])


def rendered(fig: Figure, kind: str = "svg", dark: bool = False) -> bytes:
    """Return a picture as the bytes of an SVG, PNG or PDF file; the same figure gives the same bytes.

    With ``dark`` it is drawn for a dark page, and the figure stays so.
    """
    buffer = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    with mpl.rc_context(_settings(_letters.get(fig, 9.0))), warnings.catch_warnings():
        # a name may be in a script the font does not have: it shows as boxes, after the number of the task
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if dark:
            _darken(fig)
        fig.savefig(buffer, format=kind, dpi=200 if kind == "svg" else 300, metadata=dates[kind])
    return buffer.getvalue()


def whole_numbers(axes: Axes, axis: str = "x") -> None:
    """Let an axis have marks at whole numbers only, no more than there is room for."""
    getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(integer=True, nbins="auto", min_n_ticks=2))


def plain(text: str, longest: int = 40) -> str:
    """Return a name for a picture: on one line, without control characters, and not longer than it can take.

    What is left out is left out in the middle: names that are alike differ at their end.
    """
    text = one_line(text)
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[len(text) - end :]}"


def _broken(line: str, room: int) -> list[str]:
    """Return a line as lines that fit, each ending at a comma where there is one, else between two words."""
    parts = []
    while len(line) > room and " " in line[:room]:
        comma = line[:room].rfind(", ") + 1
        cut = comma if comma > room // 3 else line[:room].rindex(" ")
        parts.append(line[:cut])
        line = line[cut + 1 :]
    return [*parts, line]


def _settings(letters: float) -> Any:
    scale = letters / 9
    return {
        **SETTINGS,
        "font.size": letters,
        "axes.titlesize": letters + 1,
        "lines.markersize": 6 * scale,
        "lines.linewidth": 1.5 * scale,
    }


def _darken(fig: Figure) -> None:
    """Replace every colour of the house by what it is on a dark page, in all that is drawn."""
    fig.draw_without_rendering()  # marks and their labels come into being when a picture is drawn
    for artist in fig.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, put = (getattr(artist, f"{verb}_{name}", None) for verb in ("get", "set"))
            if get is None or put is None:
                continue
            before = get()
            rgba = mpl.colors.to_rgba_array(before)
            after = [_dark(tuple(map(float, row))) for row in rgba]
            if after != [tuple(map(float, row)) for row in rgba]:
                put(after if isinstance(before, list) or getattr(before, "ndim", 1) == 2 else after[0])


def _dark(rgba: Any) -> Any:
    found = DARK.get(mpl.colors.to_hex(rgba[:3]).upper())
    return rgba if found is None else (*mpl.colors.to_rgb(found), rgba[3])
