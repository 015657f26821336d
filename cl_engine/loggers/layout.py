"""The arrays that a log begins with."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import h5py
import numpy as np

from cl_engine.core.text import encodable
from cl_engine.data.stream import Stream
from cl_engine.loggers.columns import all_tables
from cl_engine.loggers.tables import APART, VALIDATED, VALIDATION, describe, grow, scale, string, variable
from cl_engine.metrics.catalogue import METRICS, SCORES

EMPTY: dict[tuple[object, ...], bytes] = {}  # logs without rows, by what their arrays depend on
KEPT = 8  # of them, at most


def empty_log(seeds: Sequence[int], phases: Sequence[str], stream: Stream) -> bytes:
    """Return the file that a log begins with: arrays and tables without rows.

    It is made once in a process for all runs that begin alike, as making it takes longer than a small run learns.
    """
    shape = (tuple(seeds), tuple(phases), stream.n_tasks, stream.only_accuracy, stream.most_sums)
    if shape not in EMPTY:
        made = io.BytesIO()
        with h5py.File(made, "w", libver=("v110", "v110")) as file:
            create_results(file.create_group("results"), seeds, phases, stream)
            for table in all_tables().values():
                if not table.optional:
                    table.create(file)
        while len(EMPTY) >= KEPT:
            del EMPTY[next(iter(EMPTY))]
        EMPTY[shape] = made.getvalue()
    return EMPTY[shape]


def create_results(group: h5py.Group, seeds: Sequence[int], phases: Sequence[str], stream: Stream) -> None:
    """Create the empty arrays, with the dimensions known so far."""
    tasks = stream.n_tasks
    group.attrs.update({"NX_class": "NXdata", "signal": "accuracy" if stream.only_accuracy else "score"})
    group.attrs.create("axes", ["evaluation", "task", "seed"], dtype=string)
    evaluation = scale(group, "evaluation", "i4", "row of R", 0)
    experience = scale(group, "experience", "i4", "experience: one arrival in the stream", 0)
    task = scale(group, "task", "i4", "task", 0)
    seed = scale(group, "seed", "i8", "seed of the learner", len(seeds))
    seed[:] = seeds
    scale(group, "part", "str", "part of the learner's state", 0)
    phase = scale(group, "phase", "str", "phase of the run", len(phases))
    phase[:] = list(phases)
    step = variable(
        group, "evaluation_step", "i4", "1", "experience learned last; -1: untrained", (evaluation,), (1024,)
    )
    step.attrs["flag_untrained"] = np.int32(-1)
    variable(group, "experience_task", "i4", "1", "task of the experience", (experience,), (1024,))
    if not stream.only_accuracy:
        scale(group, "sum", "i4", "sum over test rows that scores are functions of", stream.most_sums)
    _create_cells(group, (evaluation, task, seed), stream, "R", "test rows")
    create_of_tasks(group)
    for name in SCORES:
        variable(group, name, "f8", "1", METRICS[name].meaning, (evaluation, seed), (1024, len(seeds)))
    create_memory(group, "memory", "bytes one seed holds, but for those apart")
    create_memory(group, APART, "bytes that do not count: they follow from the seeds, or serve diagnostics alone")
    variable(group, "seconds", "f8", "s", "time spent, all seeds together", (experience, phase), (1024, len(phases)))
    grow(group, "task", tasks or 0)


def create_validation(results: h5py.Group, stream: Stream) -> None:
    """Create the group of scores on validation rows, of the same axes as the results that it stands in."""
    group = results.create_group(VALIDATION)
    axes = tuple(results[name] for name in ("evaluation", "task", "seed"))
    _create_cells(group, axes, stream, "R on validation rows", "validation rows")
    seeds = len(results["seed"])
    for name in VALIDATED:
        meaning = f"{METRICS[name].meaning}, on validation rows"
        variable(group, name, "f8", "1", meaning, (axes[0], axes[2]), (1024, seeds))
    if "score" not in group:
        group["score"] = group["accuracy"]


def _create_cells(group: h5py.Group, axes: tuple[h5py.Dataset, ...], stream: Stream, matrix: str, rows: str) -> None:
    """Create the arrays with a cell for each evaluation, task and seed: scores, and the sums that they are functions of."""
    seeds, wide = len(axes[2]), min(stream.n_tasks or 256, 1024)
    chunk = (max(1, min(64, 8192 // (wide * seeds))), wide, seeds)
    if stream.only_accuracy:
        variable(group, "n_correct", "i4", "1", f"{rows} answered correctly", axes, chunk)
        variable(group, "n_total", "i4", "1", f"{rows}; 0: not measured", axes, chunk)
        variable(group, "accuracy", "f4", "1", f"{matrix}: accuracy on the task; NaN: not measured", axes, chunk)
    else:
        meaning = f"{matrix}: score on the task, by task_measure; NaN: not measured"
        variable(group, "score", "f4", "1", meaning, axes, chunk)
        place = axes[0].parent["sum"]
        of_sums = (max(1, 4096 // (seeds * len(place))), 1, seeds, len(place))
        variable(group, "sums", "f8", "1", f"sums over the {rows}; NaN: not measured", (*axes, place), of_sums)


def create_of_tasks(group: h5py.Group) -> None:
    """Create what a log says of each task, as far as it is not there, and R under the name of all scores."""
    for name, kind, meaning in (
        ("task_name", "str", "name of the task"),
        ("task_measure", "str", "what the score of the task is"),
        ("task_unit", "str", "unit of the score"),
        ("task_direction", "i4", "1: more is better; -1: less is"),
        ("task_target", "str", "what the task asks for: name and options, as JSON"),
        ("task_guess", "f8", "score of the best answer that looks at no input; NaN: not told"),
        ("task_free", "i4", "1: its labels are computed from inputs, and no person has to give them"),
    ):
        if name not in group:
            variable(group, name, kind, "1", meaning, (group["task"],), (1024,))
    if "score" not in group:
        group["score"] = group["accuracy"]


def set_texts(group: h5py.Group, texts: Mapping[str, str]) -> None:
    """Write scalar texts by name, in the place of those that are there."""
    for name, text in texts.items():
        if name in group:
            del group[name]
        describe(group.create_dataset(name, data=encodable(text), dtype=string), "1", name.replace("_", " "))


def create_memory(group: h5py.Group, name: str, meaning: str) -> None:
    """Create an array of bytes by experience and part."""
    variable(group, name, "i8", "byte", meaning, (group["experience"], group["part"]), (1024, 8))
