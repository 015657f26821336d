"""Sentences on what few seeds, or few streams, can show."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cl_engine.analysis.scores.groups import RunGroup
from cl_engine.analysis.scores.statistics import FEW, smallest_p

ALPHA = 0.05


def said_of_seeds(groups: Sequence[RunGroup], pairs: pd.DataFrame) -> list[str]:
    """Say where seeds are too few for an interval or a test."""
    said = []
    few = sorted({len(case.seeds) for case in groups if 1 < len(case.seeds) < FEW})
    if few:
        said.append(
            f"a bootstrap over {' or '.join(map(str, few))} seeds is too narrow to be a 95 % interval: read it as the spread"
        )
    if any(len(case.seeds) == 1 for case in groups):
        said.append("where there is one seed only, there is no interval and no test")
    least = {}
    for _, rows in pairs.groupby("stream", sort=False):
        tested = rows[rows["p"].notna()]  # Holm counts no other
        held = tested[tested["n"] > 1]
        if len(held) and float(held["smallest"].min()) * len(tested) >= ALPHA:
            least[int(held["n"].max()), len(tested)] = float(held["smallest"].min())
    for (n, asked), p in sorted(least.items()):
        times = f", times {asked} pairs by Holm" if asked > 1 else ""
        said.append(
            f"with {n} seeds the exact signed-rank test cannot go below p = {p:.4g}{times}: no difference can be "
            f"significant at 5 %, however large; {needed(asked)} seeds could show one"
        )
    return said


def needed(pairs: int) -> int:
    """Return how many seeds or streams the signed-rank test needs to be able to go below 5 % after correction."""
    n = 1
    while smallest_p(n) * pairs >= ALPHA:
        n += 1
    return n
