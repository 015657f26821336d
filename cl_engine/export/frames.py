"""A run as flat tables for every format that has such; R has a row for each measured cell."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from cl_engine.analysis.names import one_line
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.run import Run

ROWS = 64  # evaluations at a time
OURS = ("accuracy", "scores", "memory", "time")  # names of tables that no table of a log takes


def accuracy(run: Run) -> Iterator[pd.DataFrame]:
    """Yield the measured cells of R, some evaluations at a time, so that the whole need not be in memory.

    Columns: ``evaluation``, ``step`` (−1: untrained), ``task``, ``task_name``, ``seed``, ``n_correct``, ``n_total``,
    ``accuracy``.
    """
    found = run.results
    names = np.array([one_line(str(name)) for name in found["task_name"].values], dtype=object)
    steps, seeds = found["evaluation_step"].values, found["seed"].values
    for start in range(0, max(1, len(steps)), ROWS):
        block = found.isel(evaluation=slice(start, start + ROWS))
        correct, total, values = (block[name].values for name in ("n_correct", "n_total", "accuracy"))
        e, task, s = np.nonzero(total)
        yield pd.DataFrame(
            {
                "evaluation": e + start,
                "step": steps[start : start + ROWS][e],
                "task": task,
                "task_name": names[task],
                "seed": seeds[s],
                "n_correct": correct[e, task, s],
                "n_total": total[e, task, s],
                "accuracy": values[e, task, s],
            }
        )


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Return all else: ``scores``, ``memory``, ``time``, and the tables of the log under their own names."""
    found = run.results
    scores = found[list(SCORES)].to_dataframe().reset_index()
    scores.insert(1, "step", found["evaluation_step"].values[scores["evaluation"]])
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
