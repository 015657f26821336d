"""What runs are called where several stand side by side, on one line and safe to show."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from cl_engine.formats import clean
from cl_engine.results import Run


def one_line(text: str) -> str:
    """Return a text from a log on one line, without what could move a cursor or turn the direction of writing."""
    joined = re.sub(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", text).strip()
    return "".join(sign for sign in clean(joined) if unicodedata.category(sign) not in ("Cc", "Cf", "Co", "Cs"))


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run, no two the same.

    It is the strategy; where that is not enough, with the scenario before it, and the folder, the path or the place in
    the list behind it.
    """
    several = len({run.scenario for run in runs}) > 1
    short = [one_line(f"{run.scenario}, {run.strategy}" if several else run.strategy) for run in runs]
    names = list(short)
    folder = [one_line(run.path.parent.name or run.path.name) for run in runs]
    whole = [one_line(str(run.path)) for run in runs]
    place = [f"number {number + 1}" for number in range(len(runs))]
    for further in (folder, whole, place):
        again = Counter(names)
        alike = [k for k, name in enumerate(names) if again[name] > 1]
        for k in alike:
            names[k] = f"{short[k]} ({further[k]})"
    return names
