"""l2logger: the directories that the Lifelong Learning Logger writes and l2metrics reads, one lifetime for each seed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cl_engine.analysis.names import one_line
from cl_engine.analysis.scores.run_scores import learning_points
from cl_engine.core.measure import Measure
from cl_engine.export import frames
from cl_engine.results.run import Run

COLUMNS = [
    "block_num",
    "exp_num",
    "worker_id",
    "block_type",
    "block_subtype",
    "task_name",
    "task_params",
    "exp_status",
    "timestamp",
]
Row = tuple[str, float]


def export(run: Run, folder: Path) -> None:
    """Write ``seed-0/`` … into a folder, each a log of l2logger's format 1.1 with the metric ``accuracy``.

    Of other measures it is called ``score``; l2metrics takes more to be better, so where less is, its sign is turned.

    An experience is a training block with a row for each test in the middle of learning it, or one for the test right after
    it; an evaluation is a test block with a row for each task tested. l2metrics knows a task by its name in small letters.
    """
    names = [_name(task, str(name)) for task, name in enumerate(run.results["task_name"].values)]
    for seed in run.results["seed"].values:
        base = folder / f"seed-{seed}"
        base.mkdir(parents=True)
        count = 0
        for number, (kind, rows) in enumerate(_blocks(run, int(seed), names)):
            _write(base / "worker-0" / f"{number}-{kind}", number, kind, rows, count, _metric(run))
            count += len(rows)
        (base / "logger_info.json").write_text(
            json.dumps({"metrics_columns": [_metric(run)], "log_format_version": "1.1"}, indent=2)
        )
        (base / "scenario_info.json").write_text(frames.about(run), encoding="utf-8")


def _blocks(run: Run, seed: int, names: list[str]) -> Iterator[tuple[str, list[Row]]]:
    found, midway = run.results.sel(seed=seed), learning_points(run)
    way = np.array([1 if measure.higher else -1 for measure in run.task_measures])
    steps, tasks, values = found["evaluation_step"].values, found["experience_task"].values, way * found["score"].values
    for e in np.argsort(steps, kind="stable"):
        step = int(steps[e])
        if 0 <= step < len(tasks):
            task = int(tasks[step])
            after = values[e, task] if task < len(names) else np.nan
            turned = way[task] if task < len(way) else 1
            points = (turned * midway[step][seed]).tolist() if step in midway else [after]
            name = names[task] if task < len(names) else _name(task, "")  # never tested
            yield "train", [(name, float(value)) for value in points if np.isfinite(value)]
        tested = np.flatnonzero(np.isfinite(values[e]))
        yield "test", [(names[task], float(values[e, task])) for task in tested]


def _write(folder: Path, number: int, kind: str, rows: list[Row], first: int, metric: str) -> None:
    """Write one block; its rows are numbered over the whole lifetime, from ``first``."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        {
            "block_num": number,
            "exp_num": [first + k for k in range(len(rows))],
            "worker_id": "worker-0",
            "block_type": kind,
            "block_subtype": "wake",
            "task_name": [name for name, _ in rows],
            "task_params": "{}",
            "exp_status": "complete",
            "timestamp": "19700101T000000.000000",  # the log does not say when each test was
            metric: [value for _, value in rows],
        },
        columns=[*COLUMNS, metric],
    )
    table.to_csv(folder / "data-log.tsv", sep="\t", index=False)


def _metric(run: Run) -> str:
    return "accuracy" if run.measures == [Measure("accuracy")] else "score"


def _name(task: int, name: str) -> str:
    """Return a task's name as l2logger takes it, ``<label>_<variant>`` of letters and digits; no two alike."""
    plain = re.sub(r"[^0-9A-Za-z]+", "", one_line(name)).lower()
    return f"task{task:04d}_{plain or 'unnamed'}"
