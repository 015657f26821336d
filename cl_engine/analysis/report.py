"""One self-contained page about runs, made from their logs alone."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from cl_engine.analysis import composition, inside, pictures
from cl_engine.analysis.names import names_of, one_line
from cl_engine.analysis.remarks import remarks
from cl_engine.analysis.scores import Score, Summary, summarised
from cl_engine.analysis.style import FORMATS, inline, rendered
from cl_engine.errors import UsageError
from cl_engine.formats import clean, duration, flops, number, size, with_interval
from cl_engine.results import Run

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


TABLES = (
    ("ACC", "BWT", "forgetting", "FWT", "memory", "time"),
    ("learning accuracy", "curve area", "LCA", "transfer", "transfer, last task", "intransigence"),
    ("size efficiency", "training FLOPs", "inference FLOPs"),
)
SIGNED = {"BWT", "FWT", "forgetting", "transfer", "transfer, last task", "intransigence"}


def write_report(runs: Sequence[Run], output: Path) -> Path:
    """Write one HTML page about the runs to ``output``, replacing it as a whole, and return its path.

    Raises:
        UsageError: if there are no runs, or the page cannot be written.
    """
    if not runs:
        raise UsageError("a report needs at least one run")
    summaries = sorted((summarised(run, runs) for run in runs), key=_rank)
    runs = [summary.run for summary in summaries]
    names = names_of(runs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cl_engine.analysis", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    scenarios = sorted({one_line(run.scenario) for run in runs})
    page = environment.get_template("report.html").render(
        title=", ".join(scenarios),
        tables=[
            {
                "heads": heads,
                "rows": [
                    {"run": s.run, "name": name, "cells": _cells(s, heads)}
                    for s, name in zip(summaries, names, strict=True)
                ],
            }
            for heads in TABLES
        ],
        count=len(runs),
        seeds=" or ".join(map(str, sorted({summary.seeds for summary in summaries}))),
        remarks=remarks(names, summaries),
        pictures=[_shown(*each) for each in _of_all(runs) if each[2] is not None],
        runs=[_of_one(summary, runs, names[k], k) for k, summary in enumerate(summaries)],
        definitions=DEFINITIONS,
    )
    part = output.with_name(output.name + ".part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8")
        part.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise UsageError(f"{output} cannot be written: {error.strerror or error}") from None
    return output


def save_pictures(runs: Sequence[Run], folder: Path, kind: str = "svg") -> list[Path]:
    """Write the pictures of the report to files in ``folder``, as ``svg``, ``png`` or ``pdf``; return their paths."""
    if kind not in FORMATS:
        raise UsageError(f"no picture format '{kind}'; there are: {', '.join(FORMATS)}")
    drawn = {name: fig for name, _, fig in _of_all(runs)}
    for k, run in enumerate(runs):
        prefix = f"{k:02d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', run.strategy)}"
        drawn |= {f"{prefix}-{name}": fig for name, _, fig in _of_run(run, runs)}
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, fig in drawn.items():
            if fig is not None:
                path = folder / f"{name}.{kind}"
                path.write_bytes(rendered(fig, kind))
                written.append(path)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to: {error.strerror or error}") from None
    return written


Drawn = tuple[str, str, Figure | None]


def _of_all(runs: Sequence[Run]) -> list[Drawn]:
    """Return name, reading aid and picture of what shows all runs together."""
    tested = [run for run in runs if run.final is not None]
    if not tested:
        return []
    drawn: list[Drawn] = [
        (
            "accuracy",
            "Falling: earlier tasks are lost. The band is 95 % confidence over seeds.",
            pictures.accuracy_over_stream(tested),
        ),
        ("forgetting", "Zero: nothing that was learned is lost.", pictures.forgetting_over_stream(tested)),
        ("learning", "How fast a task is learned, tested on its own test rows.", pictures.learning_curves(tested)),
        (
            "transfer",
            "Above zero: what was learned before helps. Below: it gets in the way.",
            pictures.transfer(tested),
        ),
    ]
    if len(tested) > 1:
        against = pictures.accuracy_against_memory(tested)
        drawn += [
            ("memory", "What one seed would have to save, after each experience.", pictures.memory_of_runs(tested)),
            ("accuracy-memory", "Up and to the left is better.", against),
        ]
    return [*drawn, ("seconds", "Where the time went.", pictures.seconds_of_runs(tested))]


def _of_run(run: Run, runs: Sequence[Run]) -> list[Drawn]:
    """Return name, reading aid and picture of what shows one run."""
    if run.final is None:
        return []
    return [
        ("matrix", "A row is a test after an experience; down a column, a task is kept or lost.", pictures.matrix(run)),
        ("tasks", "Each line is a task, from when it was learned.", pictures.tasks_over_stream(run)),
        ("memory-parts", "What one seed would have to save, part by part.", pictures.memory_over_stream(run, runs)),
        ("codes", "Below the line of whole nets, codes pay.", inside.code_bytes(run)),
        ("layers", "Layer by layer, mean over seeds.", inside.layers(run)),
        ("overlap", "1: two tasks use the same weights.", inside.overlap(run)),
        ("modules", "Down a column, tasks share a module.", composition.module_graph(run)),
        ("growth", "The further below the line, the more is used again.", composition.growth(run)),
        ("orders", "The same number: the same weights.", composition.orders(run)),
        ("sources", "Along a row: whom a task could learn from.", composition.sources(run)),
    ]


def _shown(name: str, aid: str, fig: Figure | None, salt: str = "") -> dict[str, Any]:
    assert fig is not None
    # the only markup that is not escaped: matplotlib's own, in which names are drawn as paths
    return {"name": name, "aid": aid, "svg": Markup(inline(fig, f"{name}{salt}"))}


def _rank(summary: Summary) -> float:
    """Sort by ACC, the best first and the untested last."""
    return -summary.acc.mean if math.isfinite(summary.acc.mean) else 1.0


def _cells(summary: Summary, heads: Sequence[str]) -> list[str]:
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
    cells = {name: with_interval(score.mean, score.half_width, name in SIGNED) for name, score in scores.items()}
    cells["memory"], cells["time"] = size(summary.memory), duration(summary.seconds)
    cells["size efficiency"] = number(summary.size_efficiency)
    cells["training FLOPs"], cells["inference FLOPs"] = flops(summary.training_flops), flops(summary.inference_flops)
    return [cells[head] for head in heads]


def _of_one(summary: Summary, runs: Sequence[Run], name: str, index: int) -> dict[str, Any]:
    run = summary.run
    environment = {key: clean(text) for key, text in run.environment.items() if key not in ("experiment", "scenario")}
    return {
        "name": name,
        "status": run.status,
        "path": str(run.path),
        "pictures": [_shown(*each, salt=f"-{index}") for each in _of_run(run, runs) if each[2] is not None],
        "parts": {one_line(part): size(held) for part, held in summary.memory_parts.items()},
        "options": {
            table: {key: json.dumps(value) for key, value in options.items()}
            for table, options in run.experiment["options"].items()
        },
        "seeds": ", ".join(map(str, run.experiment["seeds"])),
        "environment": {**{key: clean(value) for key, value in run.attributes.items()}, **environment},
        "scenario": clean(run.environment["scenario"]),
    }
