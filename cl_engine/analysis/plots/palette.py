"""Colours that colour-blind people can tell apart, on light and on dark pages, and which of them is a strategy's."""

from __future__ import annotations

import zlib

# each on a light and on a dark page: first those of Okabe & Ito (2008), then others that stay apart from them
PAIRS = (
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
# a strategy's place says its colour and its line; those that are often seen together come first. Append only: a look stays.
PLACES = (
    *("replay", "ewc", "independent", "joint", "packnet", "hat", "lwf", "finetune", "piggyback", "skill_recall"),
    *("hypernet", "mas", "icarl", "si", "compose", "head_only", "der", "er_ace", "agem", "gdumb", "supsup", "wsn"),
    *("weight_sharing", "mntdp", "lora", "nearest_mean", "slda", "ranpac", "mntdp_s", "experts", "patch"),
    *("conditioned", "spg", "hypernet_field", "cognitive_loop", "taxonomy", "policy", "auxiliary", "single_tasking"),
    *("adapt", "align", "picle"),
)


def place_of(strategy: str) -> int:
    """Return the place of a strategy, which its colour follows from wherever it is drawn; one not known here is told by its name.

    >>> place_of("finetune") == place_of("finetune") != place_of("replay")
    True
    """
    return PLACES.index(strategy) if strategy in PLACES else zlib.crc32(strategy.encode()) % 2**16
