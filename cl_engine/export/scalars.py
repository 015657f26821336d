"""A run as curves over experiences and epochs, for tools that show curves: TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cl_engine.analysis.names import one_line
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.of_measure import taken_apart
from cl_engine.results.run import Run

TASKS = 50  # most curves of single tasks, evenly spread: such tools draw a panel for each


def over_experiences(run: Run, seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield, for each evaluation of a seed after an experience, the number of experiences learned and what was measured.

    Names are ``score/acc``, … (of several measures ``score/<measure>/acc``), ``accuracy/<task>`` (or its measure),
    ``memory/<part>`` (bytes) and ``seconds/<phase>``.
    """
    found = run.results.sel(seed=seed)
    steps, names = found["evaluation_step"].values, [one_line(str(name)) for name in found["task_name"].values]
    tasks = np.unique(np.linspace(0, len(names) - 1, min(TASKS, len(names))).round().astype(int))
    values, memory, seconds = found["score"].values, found["memory"].values, found["seconds"].values
    several = len(run.measures) > 1
    scores = {
        f"score/{f'{one_line(part.measures[0].name)}/' if several else ''}{name}": part.results[name]
        .sel(seed=seed)
        .values
        for part in taken_apart(run)
        for name in SCORES
    }
    measures = [one_line(measure.name) for measure in run.task_measures]
    for e in np.argsort(steps, kind="stable"):
        step = int(steps[e])
        numbers = {name: column[e] for name, column in scores.items()}
        numbers |= {f"{measures[task]}/{task} {names[task]}": values[e, task] for task in tasks}
        if 0 <= step < len(memory):
            numbers |= {
                f"memory/{one_line(str(part))}": held
                for part, held in zip(found["part"].values, memory[step], strict=True)
            }
            numbers |= {
                f"seconds/{one_line(str(name))}": spent
                for name, spent in zip(found["phase"].values, seconds[step], strict=True)
            }
        yield step + 1, {name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def losses(run: Run, seed: int) -> list[float]:
    """Return the mean training loss of each epoch of a seed, in order."""
    table = run.table("epochs")
    return [float(loss) for loss in table.loc[table["seed"] == seed, "loss"]]


def began(run: Run) -> float:
    """Return when the run began, in seconds since 1970; 0 where the log does not say."""
    stamp = np.datetime64("1970-01-01T00:00:00")
    try:
        return float((np.datetime64(run.attributes["created"].rstrip("Z")) - stamp) / np.timedelta64(1, "s"))
    except (KeyError, ValueError):
        return 0.0
