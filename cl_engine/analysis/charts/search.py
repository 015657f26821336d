"""The settings of a search as lines across an axis an option, the last axis the score."""

from __future__ import annotations

import math

import numpy as np

from cl_engine.analysis.charts.chart import Chart
from cl_engine.analysis.charts.lines import Named
from cl_engine.analysis.charts.specs import settings
from cl_engine.analysis.plots.settings import MARKED, placed, short, tried
from cl_engine.analysis.plots.style import COLOURS, PALE, plain
from cl_engine.core.text import number

GROUPS = ("best", "best quarter", "others")
WIDTHS = {"best": 2.6, "best quarter": 1.4, "others": 0.9}


def settings_of(runs: Named, strategy: str) -> Chart | None:
    """Return the settings of a strategy that were tried (`plots.settings.parallel_coordinates`); None of fewer than four."""
    found = tried([run for _, run in runs], strategy)
    if found is None:
        return None
    low, high = float(found.scores.min()), float(found.scores.max())
    heights = [
        *(placed(values) for values in found.options.values()),
        [*((found.scores - low) / ((high - low) or 1.0))],
    ]
    texts = [*found.options.values(), [number(score) for score in found.scores.tolist()]]
    names = [*(plain(short(key, found.options), 18) for key in found.options), found.called]
    order = found.order[::-1]
    rows, ticks = [], []
    for rank, run in reversed(list(enumerate(order))):  # the best is drawn last
        group = GROUPS[0 if rank == 0 else 1 if rank < math.ceil(len(order) / 4) else 2]
        told = ", ".join(f"{name}={values[run]}" for name, values in zip(names, texts, strict=True))
        rows += [
            (str(run), group, WIDTHS[group], place, own[run], plain(told, 200)) for place, own in enumerate(heights)
        ]
    for place, (own, values) in enumerate(zip(heights, texts, strict=True)):
        at = dict(zip(values, own, strict=True))
        marks = sorted(at, key=lambda value: at[value])
        if len(marks) > MARKED or place == len(names) - 1:
            marks = [marks[0], marks[-1]]
        ticks += [(place, at[value], plain(value or "–", 10)) for value in dict.fromkeys(marks)]
    setting, series, wide, x, mean, told_ = zip(*rows, strict=True)
    tick_x, tick_y, text = zip(*ticks, strict=True)
    return Chart(
        f"{strategy}: {len(order)} settings",
        settings(names),
        {
            "main": {"setting": setting, "series": series, "wide": wide, "x": x, "mean": mean, "told": told_},
            "ticks": {"x": tick_x, "mean": np.array(tick_y, dtype=float), "text": text},
        },
        tips=[("told", "setting")],
        series=GROUPS,
        shades=[COLOURS[1], COLOURS[0], PALE],
        near=("x", "mean"),
        fitted={"x": ["x"], "y": ["mean"]},
    )
