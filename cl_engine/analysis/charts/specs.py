"""Vega-Lite specifications of figures, one function a kind; the page gives them their data, colours, sizes and axes' ends.

A text that begins with ``@`` is put in by the page's script: ``@names``, ``@colours`` and ``@dashes`` of the legend, ``@runs``
that are shown, ``@ink`` and ``@blank`` of the page, ``@title`` and ``@scale`` of y, ``@columns`` of small maps and their
``@side``, and the ``@legend`` of a file. No text of a log stands in a specification but titles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

Spec = dict[str, Any]

# the ends of the axes: the page's script sets them, to what the data need or what a reader zooms to
ENDS: list[Spec] = [{"name": name, "value": None} for name in ("x0", "x1", "y0", "y1")]
LIT = {"name": "lit", "value": None}  # the entry of the legend that a reader points at
PALE: Spec = {"condition": {"test": "lit === null || lit === datum.series", "value": 1}, "value": 0.12}
OF_SERIES = {"field": "series", "type": "nominal", "legend": "@legend"}
COLOUR = {**OF_SERIES, "scale": {"domain": "@names", "range": "@colours"}}
DASH = {**OF_SERIES, "scale": {"domain": "@names", "range": "@dashes"}}
FEW = 60  # points of a line up to which each has a mark


def lines(x: str, points: int = 0, whole_numbers: bool = True, step: bool = False) -> Spec:
    """Return lines with their bands, and those of seeds: ``x``, ``mean``, ``low``, ``high``; ``x``, ``seed``, ``value``."""
    across = _axis("x", x, whole_numbers)
    shape = {"interpolate": "step-after"} if step else {}
    layer: list[Spec] = [
        {
            "data": {"name": "main"},
            "mark": {"type": "area", "clip": True, **shape},
            "encoding": {
                "y": _axis("low", "@title", end="y"),
                "y2": {"field": "high"},
                "opacity": {**PALE, "condition": {**PALE["condition"], "value": 0.16}, "value": 0.02},
            },
        },
        {
            "data": {"name": "seeds"},
            "mark": {"type": "line", "clip": True, "strokeWidth": 0.8, **shape},
            "encoding": {
                "y": _axis("value", "@title", end="y"),
                "detail": {"field": "seed"},
                "strokeDash": DASH,
                "opacity": {**PALE, "condition": {**PALE["condition"], "value": 0.55}, "value": 0.06},
            },
        },
        {
            "data": {"name": "main"},
            "mark": {"type": "line", "clip": True, "strokeWidth": 2, **shape},
            "encoding": {"y": _axis("mean", "@title", end="y"), "strokeDash": DASH, "opacity": PALE},
        },
    ]
    if points <= FEW:
        layer.append(
            {
                "data": {"name": "main"},
                "mark": {"type": "point", "filled": True, "size": 22, "clip": True},
                "encoding": {"y": _axis("mean", "@title", end="y"), "opacity": PALE},
            }
        )
    return {"params": [*ENDS, LIT], "encoding": {"x": across, "color": COLOUR}, "layer": layer}


def points(x: str, way: str) -> Spec:
    """Return a point a run over a logarithmic axis, its interval, and stairs along the front: ``x``, ``mean``, ``low``, ``high``.

    ``way`` is how a mark on x is called, an expression of Vega.
    """
    across = _axis("x", x, whole_numbers=False)
    across["scale"] = {**across["scale"], "type": "log"}
    across["axis"] = {"labelExpr": way, "tickCount": 6}
    return {
        "params": [*ENDS, LIT],
        "encoding": {"x": across},
        "layer": [
            {
                "data": {"name": "front"},
                "mark": {
                    "type": "line",
                    "interpolate": "step-after",
                    "strokeDash": [2, 3],
                    "color": "@ink",
                    "clip": True,
                },
                "encoding": {"y": _axis("mean", "@title", end="y"), "order": {"field": "x"}},
            },
            {
                "data": {"name": "main"},
                "mark": {"type": "rule", "clip": True},
                "encoding": {
                    "y": _axis("low", "@title", end="y"),
                    "y2": {"field": "high"},
                    "color": COLOUR,
                    "opacity": PALE,
                },
            },
            {
                "data": {"name": "seeds"},
                "mark": {"type": "point", "size": 18, "clip": True},
                "encoding": {"y": _axis("value", "@title", end="y"), "color": COLOUR, "opacity": PALE},
            },
            {
                "data": {"name": "main"},
                "mark": {"type": "point", "filled": True, "size": 90, "clip": True},
                "encoding": {"y": _axis("mean", "@title", end="y"), "color": COLOUR, "opacity": PALE},
            },
        ],
    }


def lying_bars(x: str) -> Spec:
    """Return a bar a run, put together from its parts: fields ``run``, ``series``, ``value``."""
    return {
        "params": [LIT],
        "data": {"name": "main"},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "run", "type": "nominal", "sort": "@runs", "axis": {"title": None, "labelLimit": 150}},
            "x": {"field": "value", "type": "quantitative", "title": x},
            "color": COLOUR,
            "opacity": PALE,
            "order": {"field": "place"},
        },
    }


def standing_bars(x: str, y: str) -> Spec:
    """Return parts on top of each other, ``left``, ``right``, ``bottom``, ``top``, and a line over them: ``x``, ``mean``."""
    across, up = _axis("left", x, whole_numbers=True), _axis("bottom", y, end="y")
    return {
        "params": [*ENDS, LIT],
        "layer": [
            {
                "data": {"name": "main"},
                "mark": {"type": "rect", "clip": True},
                "encoding": {
                    "x": across,
                    "x2": {"field": "right"},
                    "y": up,
                    "y2": {"field": "top"},
                    "color": COLOUR,
                    "opacity": PALE,
                },
            },
            {
                "data": {"name": "ticks"},
                "mark": {"type": "line", "clip": True, "strokeDash": [6, 4], "color": "@ink"},
                "encoding": {"x": {**across, "field": "x"}, "y": {**up, "field": "mean"}},
            },
        ],
    }


def map_of_cells(
    x: str,
    y: str,
    value: str,
    low: float,
    high: float,
    colours: Sequence[str],
    rows: Sequence[str],
    several: bool = False,
) -> Spec:
    """Return a heat map of cells ``left``, ``right``, ``top``, ``bottom`` coloured by ``value``, or one a run side by side.

    ``rows`` are how few rows are called. In a single map the ``text`` of cells is written, where they have one.
    """
    ends = np.linspace(low, high, len(colours)).round(6).tolist()
    across, down = ({"grid": False, "tickCount": {"expr": f"min(6, floor({end}1 - {end}0))"}} for end in "xy")
    called = {"labelExpr": f"{json.dumps(list(rows))}[datum.value] || ''"} if rows else {}
    cell: Spec = {
        "mark": {"type": "rect", "clip": True},
        "encoding": {
            "color": {
                "field": "value",
                "type": "quantitative",
                "title": value,
                "scale": {"range": [*colours], "domain": ends, "clamp": True, "interpolate": "rgb"},
                "legend": {"orient": "bottom", "gradientLength": 180, "gradientThickness": 9, "titleLimit": 400},
            },
        },
    }
    placed: Spec = {
        "x": {**_axis("left", x), "axis": across},
        "x2": {"field": "right"},
        "y": {**_axis("top", y, end="y"), "sort": "descending", "axis": {**down, **called}},
        "y2": {"field": "bottom"},
    }
    whole: Spec = {"params": ENDS, "data": {"name": "main"}}
    if several:
        cell["encoding"] = {**placed, **cell["encoding"]}
        heads = {"labelLimit": "@side", "title": None, "labelFontWeight": "bold", "labelPadding": 2}
        return {
            **whole,
            "facet": {"field": "run", "type": "nominal", "sort": "@runs", "header": heads},
            "columns": "@columns",
            "spacing": 16,
            "spec": {**cell, "width": "@side", "height": "@side", "view": {"fill": "@blank"}},
        }
    cell["encoding"] = {**placed, **cell["encoding"]}
    written: Spec = {
        "mark": {"type": "text", "clip": True, "fontSize": 10},
        "encoding": {
            "x": {**_axis("task", x), "axis": across},
            "y": {**_axis("row", y, end="y"), "sort": "descending", "axis": {**down, **called}},
            "text": {"field": "text"},
            "color": {"field": "inked", "type": "nominal", "scale": None},
        },
    }
    return {**whole, "layer": [cell, {"data": {"name": "ticks"}, **written}], "view": {"fill": "@blank"}}


def settings(names: Sequence[str]) -> Spec:
    """Return settings of a search as lines across an axis an option: fields ``x``, ``mean``, ``setting``; ticks with ``text``.

    ``names`` are the options, in the order of their places.
    """
    across = _axis("x", "", whole_numbers=True)
    across["axis"] = {
        "labelExpr": f"{json.dumps(list(names))}[datum.value]",
        "values": [*range(len(names))],
        "title": None,
        "labelLimit": 110,
    }
    height = {**_axis("mean", "", end="y"), "axis": None}
    return {
        "params": [*ENDS, LIT],
        "encoding": {"x": across, "y": height},
        "layer": [
            {
                "data": {"name": "main"},
                "mark": {"type": "line", "clip": True},
                "encoding": {
                    "detail": {"field": "setting"},
                    "color": COLOUR,
                    "opacity": PALE,
                    "strokeWidth": {"field": "wide", "type": "quantitative", "scale": None},
                },
            },
            {
                "data": {"name": "ticks"},
                "mark": {"type": "text", "align": "left", "dx": 4, "color": "@ink", "clip": False},
                "encoding": {"text": {"field": "text"}},
            },
        ],
    }


def _axis(field: str, title: str, whole_numbers: bool = False, end: str = "x") -> Spec:
    scale = {"domainMin": {"expr": f"{end}0"}, "domainMax": {"expr": f"{end}1"}, "nice": False, "zero": False}
    if end == "y":
        scale["type"] = "@scale"
    axis = {"tickCount": {"expr": f"min(ceil(width / 45), floor({end}1 - {end}0))"}} if whole_numbers else {}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **({"axis": axis} if axis else {})}
