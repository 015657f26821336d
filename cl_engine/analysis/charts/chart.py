"""A figure that a reader can work in, as data: its numbers, its specification, and what a hover, a zoom and a file are about."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Column = Sequence[Any] | np.ndarray
Table = Mapping[str, Column]  # columns of one length
DIGITS = 5  # of a number in a page


@dataclass(frozen=True)
class Chart:
    """A figure: tables of numbers, and how they are drawn.

    >>> Chart("ACC", {}, {"main": {"x": [1, 2], "mean": [0.5, 0.25]}}).data["tables"]["main"]["x"]
    [1, 2]

    Attributes:
        title: what it shows.
        spec: a Vega-Lite specification (`specs`), whose data are named as the tables.
        tables: columns by name; ``main``, and perhaps ``seeds``, shown when asked for, and ``ticks``, always there. A row's
            ``run`` is a name of a run, which the page may hide; its ``series`` the entry of the legend that it belongs to.
        tips: fields that a hover tells, with how they are called; those of ``seeds`` where they are others.
        series: entries of the legend in their order; empty: the runs.
        shades: colours of the entries, of an order where it is one; empty: the runs' own.
        near: fields of x and y of the points of which a hover finds the nearest; empty: a hover is on a mark.
        fitted: fields that the ends of the axes are taken from, of x and of y; empty: no zoom.
        band: fields around those of y, which an axis makes room for as far as they are near.
        ends: the ends themselves, where they do not depend on what is shown.
        whole: ends of the whole scale of y, where there are any.
        log_too: whether y may be logarithmic too, where a reader wants it so.
        logarithmic: whether x is.
        front: whether more of y is better (1) or less (-1), with little x; 0: there is no front to be drawn.
        panels: of rows with a ``panel``, what is to be chosen between, each with the title of y.
    """

    title: str
    spec: Mapping[str, Any]
    tables: Mapping[str, Table]
    tips: Sequence[tuple[str, str]] = ()
    seed_tips: Sequence[tuple[str, str]] = ()
    series: Sequence[str] = ()
    shades: Sequence[str] = ()
    near: Sequence[str] = ()
    fitted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    band: Sequence[str] = ()
    ends: Mapping[str, float] = field(default_factory=dict)
    whole: Sequence[float] = ()
    log_too: bool = False
    logarithmic: bool = False
    front: int = 0
    panels: Sequence[tuple[str, str]] = ()

    @property
    def data(self) -> dict[str, Any]:
        """All of it as JSON takes it: numbers in five figures, names once and then by their place."""
        held = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "tables"}
        tables = {name: {key: column(values) for key, values in table.items()} for name, table in self.tables.items()}
        return {**held, "tables": tables}


def packed(data: Any) -> str:
    """Return JSON, deflated, in base 64: text that is safe in any place of a page, and a quarter as long.

    >>> packed({"a": 1}) == packed({"a": 1})
    True
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def column(values: Column) -> Any:
    """Return a column for JSON: numbers in five figures, null where there is none; of texts each once, and their places.

    >>> column(["a", "a", "b"])
    {'names': ['a', 'b'], 'at': [0, 0, 1]}
    >>> column([0.123456789, float("nan")])
    [0.12346, None]
    """
    found = np.asarray(values)
    if found.dtype.kind in "OUS":
        texts = [str(value) for value in found]
        names = list(dict.fromkeys(texts))
        places = {name: place for place, name in enumerate(names)}
        return {"names": names, "at": [places[text] for text in texts]}
    if found.dtype.kind in "iub":
        return found.tolist()
    known = np.isfinite(found)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.where(known & (found != 0), np.abs(found), 1.0))))
    rounded = np.round(np.where(known, found, 0.0) * scale) / scale
    return [
        (int(value) if value == int(value) else value) if there else None
        for value, there in zip(rounded.tolist(), known.tolist(), strict=True)
    ]


def joined(tables: Sequence[Table]) -> Table:
    """Return tables with the same columns, one below the other."""
    return {key: np.concatenate([np.asarray(table[key]) for table in tables]) for key in tables[0]} if tables else {}
