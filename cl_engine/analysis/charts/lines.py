"""Lines of several runs in one figure: the mean over seeds, its confidence, and each seed's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cl_engine.analysis.charts.chart import Chart, Table, joined
from cl_engine.analysis.charts.specs import lines
from cl_engine.analysis.plots.axes import thinned
from cl_engine.analysis.plots.panels import beside_axes, spread
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.core.measure import Measure
from cl_engine.results.of_measure import taken_apart
from cl_engine.results.run import Run

MOST_POINTS = 300  # of a line
MOST_OF_SEEDS = 100  # of a line of one seed
Named = Sequence[tuple[str, Run]]
Drawn = Callable[[Run], tuple[np.ndarray, np.ndarray] | None]  # x [N], values [N, S]


def rows_of(name: str, x: np.ndarray, values: np.ndarray, seeds: Sequence[int], **further: Any) -> tuple[Table, Table]:
    """Return the rows of a run's line (mean over seeds, 95 % interval) and of its seeds' lines; thinned where they are long."""
    known = np.isfinite(values).any(axis=1)
    x, values = x[known], values[known]
    at = thinned(len(x), MOST_POINTS)
    mean = np.nanmean(values, axis=1) if len(x) else np.empty(0)
    half = interval(values) if values.shape[1] > 1 else np.full(len(x), np.nan)
    main = {
        **_named(name, len(at), further),
        "x": x[at],
        "mean": mean[at],
        "low": (mean - half)[at],
        "high": (mean + half)[at],
    }
    few = thinned(len(x), MOST_OF_SEEDS)
    count = values.shape[1] if values.shape[1] > 1 else 0  # of one seed there is nothing beside the mean
    own = {
        **_named(name, count * len(few), further),
        "seed": np.repeat(np.asarray(seeds[:count], dtype=int), len(few)),
        "x": np.tile(x[few], count),
        "value": values[few, :count].T.ravel(),
    }
    return main, own


def over_stream(
    runs: Named, drawn: Drawn, title: str, x: str, y: str, levels: bool = True, by_measure: bool = True, **own: Any
) -> Chart | None:
    """Return a figure with a line a run; None where no run has one. Of several measures a panel each.

    ``levels``: what is drawn are scores, not differences of them; without ``by_measure`` it has nothing to do with measures;
    ``own`` are further fields of the figure (`Chart`).
    """
    main: list[Table] = []
    single: list[Table] = []
    measures: dict[Measure, None] = {}
    for name, run in runs:
        for part in taken_apart(run) if by_measure else [run]:
            found = drawn(part)
            if found is None or not np.isfinite(found[1]).any():
                continue
            measure = part.measures[0]
            measures.setdefault(measure)
            panel: dict[str, Any] = {"panel": measure.title} if by_measure else {}
            rows, seeds = rows_of(name, *found, part.results["seed"].values.tolist(), **panel)
            main.append(rows)
            single.append(seeds)
    if not main:
        return None
    tables = {"main": joined(main), "seeds": joined(single)}
    called = {measure: beside_axes(measure, y, levels) if by_measure else y for measure in measures}
    return figure_of_lines(
        title,
        x,
        tables,
        [(measure.title, called[measure]) for measure in measures] if by_measure else [("", y)],
        whole=_whole(list(measures), tables) if levels and by_measure else (),
        **own,
    )


def figure_of_lines(
    title: str,
    x: str,
    tables: dict[str, Table],
    panels: Sequence[tuple[str, str]],
    whole: Sequence[float] = (),
    **own: Any,
) -> Chart:
    """Return the figure of lines that are there as rows (`rows_of`)."""
    longest = max(np.unique(np.asarray(tables["main"]["series"]), return_counts=True)[1], default=0)
    return Chart(
        title,
        lines(x, int(longest)),
        tables,
        tips=[("x", x), ("mean", "mean"), ("low", "95 % from"), ("high", "to")],
        seed_tips=[("seed", "seed"), ("x", x), ("value", "value")],
        near=("x", "mean", "value"),
        fitted={"x": ["x"], "y": ["mean", "value"]},
        band=("low", "high"),
        whole=whole,
        panels=panels,
        **own,
    )


def _named(name: str, count: int, further: dict[str, Any]) -> dict[str, Any]:
    own = {"run": name, "series": name, **further}
    return {key: np.full(count, value, dtype=object) for key, value in own.items()}


def _whole(measures: Iterable[Measure], tables: dict[str, Table]) -> Sequence[float]:
    shares = all(spread(measure, np.asarray(tables["main"]["mean"], dtype=float)) == (0.0, 1.0) for measure in measures)
    return (0.0, 1.0) if shares else ()
