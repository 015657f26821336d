"""Axes of a sweep: the values of an option one after the other, or a range that values are drawn from."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_engine.core import rng
from cl_engine.errors import UsageError
from cl_engine.runs.scenario import parsed

Point = dict[str, Any]
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"(?P<log>log:)?(?P<low>{NUMBER})\.\.(?P<high>{NUMBER})")
TRIES = 100  # draws of a point that was drawn before, after which there are taken to be no more


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; uniform, or uniform in their logarithm; real or whole.

    >>> 1e-4 <= Range(1e-4, 1e-1, log=True).draw(np.random.default_rng(0)) <= 1e-1
    True
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, draw: np.random.Generator) -> float | int:
        """Return a number of the range, with three digits that mean something, so that it can be typed again."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if self.whole and not self.log:
            return int(draw.integers(int(low), int(high), endpoint=True))
        value = draw.uniform(low, high)
        value = math.exp(value) if self.log else value
        if self.whole:
            return min(int(self.high), max(int(self.low), round(value)))
        return min(self.high, max(self.low, float(f"{value:.3g}")))


Axis = list[Any] | Range
Axes = Mapping[str, Axis]


def axes_of(tables: Mapping[str, Any], where: str = "set") -> dict[str, Axis]:
    """Return the axes that a table ``[set]`` names: lists, single values and ``{ from, to, log }``, by dotted key.

    Raises:
        UsageError: for an empty list, or a range that is none.
    """
    found: dict[str, Axis] = {}
    for key, value in tables.items():
        place = f"{where}.{key}"
        if isinstance(value, Mapping) and "from" in value:
            found[key] = _range(value, place)
        elif isinstance(value, Mapping):
            found |= {f"{key}.{rest}": axis for rest, axis in axes_of(value, place).items()}
        else:
            found[key] = list(value) if isinstance(value, list) else [value]
            if not found[key]:
                raise UsageError(f"{place}: there must be at least one value, found []")
    return found


def assigned(text: str, several: bool = True) -> tuple[str, Any]:
    """Return what ``KEY=VALUE,VALUE,…`` or ``KEY=LOW..HIGH`` (``KEY=log:LOW..HIGH``) stands for in a table ``[set]``.

    Values are read as TOML, and as plain strings if they are not TOML; commas within brackets and quotes part nothing.

    Raises:
        UsageError: for what is not written so, with an example of ``several`` values or of one.
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        how = "KEY=VALUE,VALUE,…, as in --set train.lr=1e-3,3e-3" if several else "KEY=VALUE, as in --set train.lr=0.1"
        raise UsageError(f"--set {text}: write {how}")
    key = key.strip()
    if match := RANGE.fullmatch(values.strip()):
        low, high = (parsed(f"x={match[end]}")[1] for end in ("low", "high"))
        return key, {"from": low, "to": high, "log": bool(match["log"])}
    return key, [parsed(f"x={part.strip()}")[1] for part in _parts(values)]


def grid(axes: Axes) -> Iterator[Point]:
    """Yield every combination of the values, the last axis fastest.

    Raises:
        UsageError: if an axis is a range.
    """
    for key, axis in axes.items():
        if isinstance(axis, Range):
            raise UsageError(
                f"set.{key}: a range has no values to go through one by one; list some, or search = 'random' or 'optuna'"
            )
    for values in itertools.product(*(axis for axis in axes.values() if isinstance(axis, list))):
        yield dict(zip(axes, values, strict=True))


def random(axes: Axes, trials: int, seed: int) -> Iterator[Point]:
    """Yield ``trials`` points drawn at random, no two the same; fewer if there are fewer.

    The k-th point depends on the seed and on k alone: more trials are the same ones and some more.
    """
    drawn: set[str] = set()
    for number in range(trials):
        for attempt in range(TRIES):
            draw = rng.arrays(seed, "sweep", number, attempt)
            point = {
                key: axis.draw(draw) if isinstance(axis, Range) else axis[int(draw.integers(len(axis)))]
                for key, axis in axes.items()
            }
            name = json.dumps(point, sort_keys=True)
            if name not in drawn:
                drawn.add(name)
                yield point
                break
        else:
            return


def covering(axes: Axes) -> Iterator[Point]:
    """Yield a few points that have among them both ends of every range, the upper ones first, and every listed value."""
    values = [
        [_whole(axis, axis.high), _whole(axis, axis.low)] if isinstance(axis, Range) else axis for axis in axes.values()
    ]
    for number in range(max(map(len, values), default=1)):
        yield {key: listed[number % len(listed)] for key, listed in zip(axes, values, strict=True)}


def _whole(axis: Range, value: float) -> float | int:
    return int(value) if axis.whole else value


def _range(table: Mapping[str, Any], place: str) -> Range:
    unknown = table.keys() - {"from", "to", "log"}
    ends = [table.get("from"), table.get("to")]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends)
    if unknown or not numbers or not isinstance(table.get("log", False), bool):
        raise UsageError(f"{place}: a range is {{ from = NUMBER, to = NUMBER, log = true/false }}, found {dict(table)}")
    low, high = (float(end) for end in ends)  # type: ignore[arg-type]
    if low >= high or (table.get("log") and low <= 0):
        positive = ", and above 0 if log" if table.get("log") else ""
        raise UsageError(
            f"{place}: a range goes from a number to a greater one{positive}; found {ends[0]} to {ends[1]}"
        )
    return Range(low, high, bool(table.get("log")), all(isinstance(end, int) for end in ends))


def _parts(text: str) -> list[str]:
    """Return what the commas part that stand outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        depth += (sign in "[{") - (sign in "]}") if not quote else 0
        if sign == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts
