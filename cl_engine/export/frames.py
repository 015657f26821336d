"""A run as flat tables for every format that has such; R has a row for each measured cell."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from cl_engine.analysis.names import one_line
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.of_measure import taken_apart
from cl_engine.results.run import Run

ROWS = 64  # evaluations at a time
OURS = ("accuracy", "score", "scores", "memory", "time")  # names of tables that no table of a log takes


def cells_name(run: Run) -> str:
    """Return what the table of R is called: ``accuracy``, or of other measures ``score``."""
    return "accuracy" if "n_total" in run.results else "score"


def accuracy(run: Run) -> Iterator[pd.DataFrame]:
    """Yield the measured cells of R, some evaluations at a time, so that the whole need not be in memory.

    Columns: ``evaluation``, ``step`` (−1: untrained), ``task``, ``task_name``, ``seed``, ``n_correct``, ``n_total``,
    ``accuracy``. In a run of other measures ``measure``, ``unit`` and ``score`` stand for ``accuracy``, and counts are 0
    where that is not what a task is measured by.
    """
    found = run.results
    names = np.array([one_line(str(name)) for name in found["task_name"].values], dtype=object)
    said = ([one_line(getattr(measure, part)) for measure in run.task_measures] for part in ("name", "unit"))
    of_tasks = [np.array(texts, dtype=object) for texts in said]
    steps, seeds = found["evaluation_step"].values, found["seed"].values
    for start in range(0, max(1, len(steps)), ROWS):
        block = found.isel(evaluation=slice(start, start + ROWS))
        counted = "n_total" in block
        e, task, s = np.nonzero(block["n_total"].values if counted else np.isfinite(block["score"].values))
        where = {
            "evaluation": e + start,
            "step": steps[start : start + ROWS][e],
            "task": task,
            "task_name": names[task],
            "seed": seeds[s],
        }
        if counted:
            cells = {name: block[name].values[e, task, s] for name in ("n_correct", "n_total", "accuracy")}
        else:
            sums, by_count = block["sums"].values[e, task, s], of_tasks[0][task] == "accuracy"
            # of measures with one sum there may be no other
            right, total = (np.where(by_count, sums[:, min(k, sums.shape[1] - 1)], 0).astype(int) for k in (0, 1))
            cells = {"measure": of_tasks[0][task], "unit": of_tasks[1][task], "n_correct": right, "n_total": total}
            cells["score"] = block["score"].values[e, task, s]
        yield pd.DataFrame({**where, **cells})


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Return all else: ``scores``, ``memory``, ``time``, and the tables of the log under their own names."""
    found = run.results
    scores = found[list(SCORES)].to_dataframe().reset_index()
    scores.insert(1, "step", found["evaluation_step"].values[scores["evaluation"]])
    if len(run.measures) > 1:  # a row an evaluation, seed and measure: none is over several of them
        parts = [part.results[list(SCORES)].to_dataframe().reset_index() for part in taken_apart(run)]
        named = [part.assign(measure=one_line(of.name)) for part, of in zip(parts, run.measures, strict=True)]
        scores = pd.concat([scores[["evaluation", "step", "seed"]].merge(part) for part in named], ignore_index=True)
    memory = found["memory"].to_series().rename("bytes").reset_index()
    time = found["seconds"].to_series().reset_index()
    for frame, column in ((memory, "part"), (time, "phase")):
        frame[column] = [one_line(str(name)) for name in frame[column]]
        frame.insert(1, "task", found["experience_task"].values[frame["experience"]])
    further = {name: run.table(name) for name in run.tables if name.casefold() not in OURS}
    return {"scores": scores, "memory": memory, "time": time, **further}


def about(run: Run) -> str:
    """Return what was run, and where, as JSON: the attributes of the log, the experiment, the environment."""
    texts = {name: text for name, text in run.environment.items() if name != "experiment"}
    return json.dumps({**run.attributes, "experiment": run.experiment, "environment": texts}, indent=1) + "\n"
