"""The look of a run in figures: a colour that is its strategy's in every figure and on every page, and a kind of line."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cl_engine.results.run import Run

# each on a light and on a dark page: first those of Okabe & Ito (2008), then others that stay apart from them
COLOURS = (
    ("#0072B2", "#3B8EDB"),
    ("#D55E00", "#E8731A"),
    ("#009E73", "#1DB98A"),
    ("#CC79A7", "#DE92BC"),
    ("#E69F00", "#F0B030"),
    ("#56B4E9", "#93D2F6"),
    ("#6A3D9A", "#A982DC"),
    ("#7F7F7F", "#A3A3A3"),
    ("#8C564B", "#C08A7E"),
    ("#8A8B00", "#C5C637"),
    ("#0E8A94", "#35C3CF"),
    ("#B2182B", "#F0596B"),
    ("#33691E", "#8BC34A"),
    ("#1B2A6B", "#7F93E6"),
    ("#E7298A", "#FF6DB6"),
    ("#A6761D", "#D8A94C"),
)
DASHES = ((), (7, 3), (2, 2), (9, 3, 2, 3), (4, 2, 1, 2, 1, 2))
SHADES = (("#FFFFFF", 0.0), ("#000000", 0.35), ("#FFFFFF", 0.4))
# a strategy's place says its colour and its line; those that are often seen together come first. Append only: a look stays.
PLACES = (
    *("replay", "ewc", "independent", "joint", "packnet", "hat", "lwf", "finetune", "piggyback", "skill_recall"),
    *("hypernet", "mas", "icarl", "si", "compose", "head_only", "der", "er_ace", "agem", "gdumb", "supsup", "wsn"),
    *("weight_sharing", "mntdp", "lora", "nearest_mean", "slda", "ranpac", "mntdp_s", "experts", "patch"),
    *("conditioned", "spg", "hypernet_field", "cognitive_loop", "taxonomy", "policy", "auxiliary", "single_tasking"),
    *("adapt", "align"),
)


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
    place = PLACES.index(strategy) if strategy in PLACES else zlib.crc32(strategy.encode())
    return Look(*COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)])


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
            colours, again = COLOURS[again % len(COLOURS)], again // len(COLOURS)
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
