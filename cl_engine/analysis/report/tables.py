"""Tables of a report: cells with the text to be read and the number to sort by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cl_engine.analysis.names import differing
from cl_engine.analysis.scores.run_scores import Score, Summary
from cl_engine.core.text import UNDEFINED, duration, flops, number, size, with_interval
from cl_engine.metrics.catalogue import METRICS

DEFINITIONS = {metric.title: metric.meaning for metric in METRICS.values() if metric.meaning}
HEADS = (
    ("acc", "bwt", "forgetting", "fwt", "memory", "seconds"),
    ("learning_accuracy", "curve_area", "lca", "transfer", "transfer_last", "intransigence"),
    ("size_efficiency", "training_flops", "inference_flops"),
)


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and the number it is sorted by; None: by the text; NaN is always last.

    >>> Cell("12.3 kB", 12300.0).key
    '12300.0'
    """

    text: str
    value: float | None = None

    @property
    def key(self) -> str:
        """The number as an attribute of the page; empty if there is none."""
        return "" if self.value is None or not math.isfinite(self.value) else repr(float(self.value))


@dataclass(frozen=True)
class Table:
    """A table of a report.

    >>> Table("scores", "run", ["ACC"], [("finetune", "", [Cell("0.90", 0.9)])]).heads
    ['ACC']

    Attributes:
        about: what it holds, for readers who hear it.
        heads: the names of the columns after the first.
        rows: for each row its name, its status (empty: finished) and its cells.
    """

    about: str
    first: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]


def score_tables(names: Sequence[str], summaries: Sequence[Summary]) -> list[Table]:
    """Return the scores of runs as tables; a column that no run has a number for is left out."""
    all_cells = [_cells(summary) for summary in summaries]
    tables = []
    for heads in HEADS:
        shown = [h for h in heads if h in HEADS[0] or any(cells[h].text != UNDEFINED for cells in all_cells)]
        rows = [
            (name, _status(summary), [cells[head] for head in shown])
            for name, summary, cells in zip(names, summaries, all_cells, strict=True)
        ]
        if shown:
            tables.append(Table("scores", "run", [METRICS[head].title for head in shown], rows))
    return tables


def overview(groups: dict[str, tuple[Sequence[str], Sequence[Summary]]]) -> Table:
    """Return ACC with strategies as rows and scenarios as columns; ``groups`` are names and summaries by scenario."""
    strategies = list(dict.fromkeys(name for names, _ in groups.values() for name in names))
    found = {
        (name, scenario): summary
        for scenario, (names, summaries) in groups.items()
        for name, summary in zip(names, summaries, strict=True)
    }
    rows = []
    for name in strategies:
        cells = []
        for scenario in groups:
            summary = found.get((name, scenario))
            status = f" ({_status(summary)})" if summary and _status(summary) else ""
            text = _interval(summary.acc, "acc") + status if summary else ""
            cells.append(Cell(text or "no run", summary.acc.mean if summary else math.nan))
        rows.append((name, "", cells))
    return Table("mean accuracy (ACC) by strategy and scenario", "strategy", list(groups), rows)


def options_apart(names: Sequence[str], summaries: Sequence[Summary]) -> Table | None:
    """Return the options in which runs differ, a column each; None if they differ in none or there is one run.

    Options of strategies are there where runs of one strategy differ in them: no two strategies have the same ones.
    """
    runs = [summary.run for summary in summaries]
    own = {
        key
        for strategy in {run.strategy for run in runs}
        for key in differing([run for run in runs if run.strategy == strategy])
    }
    kept = {key: values for key, values in differing(runs).items() if key in own or not key.startswith("strategy.")}
    if not kept:
        return None
    rows = [(name, "", [_option(values[k]) for values in kept.values()]) for k, name in enumerate(names)]
    return Table("options in which the runs differ", "run", list(kept), rows)


def _option(text: str) -> Cell:
    try:
        return Cell(text or UNDEFINED, float(text))
    except ValueError:
        return Cell(text or UNDEFINED)


def _status(summary: Summary) -> str:
    return "" if summary.run.status == "finished" else summary.run.status


def _interval(score: Score, name: str) -> str:
    return with_interval(score.mean, score.half_width, METRICS[name].signed)


def _cells(summary: Summary) -> dict[str, Cell]:
    names = (*HEADS[0][:4], *HEADS[1])
    scores: dict[str, Score] = {name: getattr(summary, name) for name in names}
    return {
        **{name: Cell(_interval(score, name), score.mean) for name, score in scores.items()},
        "memory": Cell(size(summary.memory), summary.memory),
        "seconds": Cell(duration(summary.seconds), summary.seconds),
        "size_efficiency": Cell(number(summary.size_efficiency), summary.size_efficiency),
        "training_flops": Cell(flops(summary.training_flops), summary.training_flops),
        "inference_flops": Cell(flops(summary.inference_flops), summary.inference_flops),
    }
