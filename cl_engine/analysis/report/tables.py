"""The numbers of a report as tables: a cell is what is read, and the number by which it is sorted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cl_engine.analysis.names import differing
from cl_engine.analysis.scores.run_scores import Score, Summary
from cl_engine.core.text import UNDEFINED, duration, flops, number, size, with_interval

DEFINITIONS = {
    "ACC": "mean accuracy over the tasks met, at the end (Lopez-Paz & Ranzato 2017)",
    "BWT": "backward transfer: accuracy at the end less that right after learning, mean over the earlier tasks "
    "(Lopez-Paz & Ranzato 2017)",
    "forgetting": "best earlier accuracy less that at the end, mean over the earlier tasks (Chaudhry et al. 2018)",
    "FWT": "forward transfer: accuracy just before learning less that of the untrained learner (Lopez-Paz & Ranzato 2017)",
    "learning accuracy": "accuracy right after learning, mean over tasks (Riemer et al. 2019)",
    "curve area": "area under the curve of test accuracy while learning a task, divided by its length",
    "LCA": "mean accuracy after 0, 1, … β batches of learning a task, β as many as were tested after each "
    "(Chaudhry et al. 2019)",
    "transfer": "accuracy right after learning less that of the run `independent`, mean over tasks; the last task's alone is "
    "the transfer of a stream (Veniat et al. 2021)",
    "intransigence": "accuracy of the run `joint` right after each task less this run's, mean over tasks "
    "(Chaudhry et al. 2018)",
    "memory": "bytes one seed would have to save at the end",
    "training FLOPs": "multiplications and additions of matrix products and convolutions in all fits, one seed's",
    "inference FLOPs": "the same for answering one row of the last task",
    "size efficiency": "mean of memory after the first task over memory after each, at most 1 (Díaz-Rodríguez et al. 2018)",
}
HEADS = (
    ("ACC", "BWT", "forgetting", "FWT", "memory", "time"),
    ("learning accuracy", "curve area", "LCA", "transfer", "transfer, last task", "intransigence"),
    ("size efficiency", "training FLOPs", "inference FLOPs"),
)
SIGNED = {"BWT", "FWT", "forgetting", "transfer", "transfer, last task", "intransigence"}


@dataclass(frozen=True)
class Cell:
    """What stands in a table, and by what it is sorted: a number, or None for by the text; NaN is always last."""

    text: str
    value: float | None = None

    @property
    def key(self) -> str:
        """The number as an attribute of the page; empty if there is none."""
        return "" if self.value is None or not math.isfinite(self.value) else repr(float(self.value))


@dataclass(frozen=True)
class Table:
    """A table of a report.

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
            tables.append(Table("scores", "run", shown, rows))
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
            text = _interval(summary.acc, "ACC") + status if summary else ""
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
    return with_interval(score.mean, score.half_width, name in SIGNED)


def _cells(summary: Summary) -> dict[str, Cell]:
    scores: dict[str, Score] = {
        "ACC": summary.acc,
        "BWT": summary.bwt,
        "forgetting": summary.forgetting,
        "FWT": summary.fwt,
        "learning accuracy": summary.learning_accuracy,
        "curve area": summary.curve_area,
        "LCA": summary.lca,
        "transfer": summary.transfer,
        "transfer, last task": summary.transfer_last,
        "intransigence": summary.intransigence,
    }
    return {
        **{name: Cell(_interval(score, name), score.mean) for name, score in scores.items()},
        "memory": Cell(size(summary.memory), summary.memory),
        "time": Cell(duration(summary.seconds), summary.seconds),
        "size efficiency": Cell(number(summary.size_efficiency), summary.size_efficiency),
        "training FLOPs": Cell(flops(summary.training_flops), summary.training_flops),
        "inference FLOPs": Cell(flops(summary.inference_flops), summary.inference_flops),
    }
