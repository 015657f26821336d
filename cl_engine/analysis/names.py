"""Names of runs that stand side by side: on one line, distinct, and safe to show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cl_engine.core.text import clean
from cl_engine.core.tree import as_text
from cl_engine.results.run import Run

FEW, SHORT = 3, 40  # most options that are named, and most letters that it may take


def one_line(text: str) -> str:
    """Return a text from a log on one line, without what could move a cursor or turn the direction of writing."""
    return clean(re.sub(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", text).strip())


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run, no two the same.

    It is the strategy; where that is not enough, with the scenario before it, and behind it the options in which runs of
    the strategy differ (if they are few), the folder, the path or the place in the list.
    """
    several = len({run.scenario for run in runs}) > 1
    short = [one_line(f"{run.scenario}, {run.strategy}" if several else run.strategy) for run in runs]
    names = list(short)
    for group in _alike(names):
        options = differing([runs[k] for k in group])
        learning = {key: values for key, values in options.items() if not key.startswith("agenda.")}
        for chosen in (options, learning):  # when it is tested and saved says less of a run than how it learns
            told = [
                ", ".join(_setting(_last(key, chosen), values[place]) for key, values in chosen.items())
                for place in range(len(group))
            ]
            if 0 < len(chosen) <= FEW and max(map(len, told)) <= SHORT:
                for k, text in zip(group, told, strict=True):
                    names[k] = short[k] = f"{short[k]} ({text})"
                break
    folder = [one_line(run.path.parent.name or run.path.name) for run in runs]
    whole = [one_line(str(run.path)) for run in runs]
    number = [f"number {place + 1}" for place in range(len(runs))]
    for further in (folder, whole, number):
        for group in _alike(names):
            for k in group:
                names[k] = f"{short[k]} ({further[k]})"
    return names


def dotted(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return every value of nested options under its dotted name, as `--set` would be given it, safe to show."""
    return {one_line(name): one_line(text) for name, text in as_text(tree).items()}


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the options in which runs differ, seeds among them, each with its value in every run; empty: has none."""
    options = [
        {**dotted(run.experiment["options"]), "seeds": ", ".join(map(str, run.experiment["seeds"]))} for run in runs
    ]
    values = {
        key: [each.get(key, "") for each in options] for key in dict.fromkeys(key for each in options for key in each)
    }
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def _setting(option: str, value: str) -> str:
    return f"{option}={value}" if value else f"no {option}"


def _alike(names: Sequence[str]) -> list[list[int]]:
    """Return the places of each name that occurs more than once."""
    again = Counter(names)
    return [[k for k, name in enumerate(names) if name == twice] for twice, count in again.items() if count > 1]


def _last(key: str, keys: Iterable[str]) -> str:
    """Return the last part of a dotted name, or the whole name where another one ends alike."""
    last = key.rsplit(".", 1)[-1]
    return last if sum(other.rsplit(".", 1)[-1] == last for other in keys) == 1 else key
