"""Tables of a report: cells with the text to be read and the number to sort by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cl_engine.analysis.names import differing
from cl_engine.analysis.scores import own_metrics
from cl_engine.analysis.scores.run_scores import Score, Summary
from cl_engine.core.measure import Measure
from cl_engine.core.text import UNDEFINED, duration, flops, number, size, with_interval
from cl_engine.metrics.catalogue import METRICS

DEFINITIONS = {metric.title: metric.meaning for metric in METRICS.values() if metric.meaning}
HEADS = (
    ("acc", "bwt", "forgetting", "fwt", "memory", "seconds"),
    ("learning_accuracy", "online_accuracy", "curve_area", "lca", "transfer", "transfer_last", "intransigence"),
    ("size_efficiency", "training_flops", "inference_flops"),
)
COSTS = ("memory", "seconds", *HEADS[2])  # of a whole run, whatever its tasks are measured by
Named = Sequence[tuple[str, Summary]]  # runs beside each other


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


NOTHING = Cell(UNDEFINED, math.nan)


@dataclass(frozen=True)
class Table:
    """A table of a report.

    >>> Table("scores", "run", ["ACC"], [("finetune", "", [Cell("0.90", 0.9)])]).heads
    ['ACC']

    Attributes:
        about: what it holds, for readers who hear it.
        first: the name of the first column.
        heads: the names of the columns after the first.
        rows: for each row its name, its status (empty: finished) and its cells.
        title: what stands above it, as what the scores in it are measured by.
    """

    about: str
    first: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]
    title: str = ""


def score_tables(runs: Named, parts: Mapping[Measure, Named]) -> list[Table]:
    """Return the scores of runs as tables; a column that no run has a number for is left out.

    ``parts`` are the runs by what their tasks are measured by. Where that is one thing, its tables tell the costs too;
    of several each has tables of its own, after Δm, which is across them, and the costs.
    """
    if len(parts) == 1:
        (measure, held), *_ = parts.items()
        return _tables(held, HEADS, "" if measure == Measure("accuracy") else measure.title)
    tables = _tables(runs, [COSTS], "costs")
    if any(math.isfinite(summary.delta_m.mean) for _, summary in runs):
        tables.insert(0, _of_delta_m(runs, parts))
    heads = [[head for head in heads if head not in COSTS] for heads in HEADS]
    for measure, held in parts.items():
        tables += _tables(held, heads, measure.title)
    return tables


def _tables(runs: Named, all_heads: Sequence[Sequence[str]], title: str) -> list[Table]:
    """Return tables of these columns, the first of them under a title; empty columns are left out, but for the usual ones."""
    all_cells = [_cells(summary) for _, summary in runs]
    own = {name: about for _, summary in runs for name, about in summary.run.metrics.items()}
    titles = {name: about.title for name, about in (METRICS | own).items()}
    if own and any("acc" in heads for heads in all_heads):
        all_heads = [*all_heads, tuple(own)]
    tables: list[Table] = []
    for heads in all_heads:
        shown = [
            h for h in heads if h in HEADS[0] or any(cells.get(h, NOTHING).text != UNDEFINED for cells in all_cells)
        ]
        rows = [
            (name, _status(summary), [cells.get(head, NOTHING) for head in shown])
            for (name, summary), cells in zip(runs, all_cells, strict=True)
        ]
        if shown:
            about = f"scores, {title}" if title else "scores"
            tables.append(Table(about, "run", [titles[h] for h in shown], rows, "" if tables else title))
    return tables


def _of_delta_m(runs: Named, parts: Mapping[Measure, Named]) -> Table:
    """Return Δm across measures, and within each of them the mean over seeds."""
    by_name = {(name, measure): summary for measure, held in parts.items() for name, summary in held}
    rows = []
    for name, summary in runs:
        found = [by_name.get((name, measure)) for measure in parts]
        means = [own.delta_m.mean if own else math.nan for own in found]
        cells = [Cell(number(mean, signed=True), mean) for mean in means]
        cells.insert(0, Cell(_interval(summary.delta_m, "delta_m"), summary.delta_m.mean))
        rows.append((name, _status(summary), cells))
    heads = ["all tasks", *(measure.name for measure in parts)]
    return Table("Δm across measures", "run", heads, rows, "Δm: relative change to independent, positive is better")


def overview(groups: Mapping[str, Named]) -> Table:
    """Return ACC with strategies as rows and scenarios as columns, of several measures one for each."""
    strategies = list(dict.fromkeys(name for runs in groups.values() for name, _ in runs))
    found = {(name, scenario): summary for scenario, runs in groups.items() for name, summary in runs}
    rows = []
    for name in strategies:
        cells = []
        for scenario in groups:
            summary = found.get((name, scenario))
            status = f" ({_status(summary)})" if summary and _status(summary) else ""
            text = _interval(summary.acc, "acc") + status if summary else ""
            cells.append(Cell(text or "no run", summary.acc.mean if summary else math.nan))
        rows.append((name, "", cells))
    plain = all(summary.run.measures == [Measure("accuracy")] for summary in found.values())
    return Table(
        f"mean {'accuracy' if plain else 'score'} (ACC) by strategy and scenario", "strategy", list(groups), rows
    )


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
    own = own_metrics.scores(summary.run)
    return {
        **{name: Cell(_interval(score, name), score.mean) for name, score in scores.items()},
        **{m.name: Cell(with_interval(s.mean, s.half_width, m.signed), s.mean) for m, s in own},
        "memory": Cell(size(summary.memory), summary.memory),
        "seconds": Cell(duration(summary.seconds), summary.seconds),
        "size_efficiency": Cell(number(summary.size_efficiency), summary.size_efficiency),
        "training_flops": Cell(flops(summary.training_flops), summary.training_flops),
        "inference_flops": Cell(flops(summary.inference_flops), summary.inference_flops),
    }
