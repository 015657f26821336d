"""The look of a run in figures: a colour that is its strategy's in every figure and on every page, and a kind of line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cl_engine.analysis.plots.palette import PAIRS, place_of
from cl_engine.results.run import Run

DASHES = ((), (7, 3), (2, 2), (9, 3, 2, 3), (4, 2, 1, 2, 1, 2))
SHADES = (("#FFFFFF", 0.0), ("#000000", 0.35), ("#FFFFFF", 0.4))


@dataclass(frozen=True)
class Look:
    """How a run is drawn.

    >>> Look("#0072B2", "#3B8EDB", ()).light
    '#0072B2'

    Attributes:
        light: its colour on a light page.
        dark: its colour on a dark page.
        dash: lengths of dashes and gaps; empty: a line without gaps.
    """

    light: str
    dark: str
    dash: tuple[int, ...]


def look(strategy: str) -> Look:
    """Return the look of a strategy; one that is not known here gets its look from its name.

    >>> look("finetune") == look("finetune") != look("replay")
    True
    """
    place = place_of(strategy)
    return Look(*PAIRS[place % len(PAIRS)], DASHES[place // len(PAIRS) % len(DASHES)])


def looks(runs: Sequence[Run]) -> list[Look]:
    """Return the look of each run, no two the same.

    Of several runs of one strategy the later have other lines and other shades of its colour; where all are of one strategy,
    other colours.
    """
    alone = len({run.strategy for run in runs}) == 1
    met: Counter[str] = Counter()
    found = []
    for run in runs:
        own, again = look(run.strategy), met[run.strategy]
        met[run.strategy] += 1
        if alone:
            colours, again = PAIRS[again % len(PAIRS)], again // len(PAIRS)
        else:
            colours = (own.light, own.dark)
        shade = SHADES[again // len(DASHES) % len(SHADES)] if alone else SHADES[again % len(SHADES)]
        dash = DASHES[(DASHES.index(own.dash if not alone else ()) + again) % len(DASHES)]
        light, dark = (_mixed(colour, *shade) for colour in colours)
        found.append(Look(light, dark, dash))
    return found


def _mixed(colour: str, other: str, share: float) -> str:
    """Return a colour with a share of another in it."""
    parts = [[int(each[k : k + 2], 16) for k in (1, 3, 5)] for each in (colour, other)]
    mixed = [round((1 - share) * one + share * two) for one, two in zip(*parts, strict=True)]
    return "#{:02X}{:02X}{:02X}".format(*mixed)
