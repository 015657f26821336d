"""Many logs as one labelled dataset: small arrays are read at once, the accuracy matrices stay on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cl_engine.core.tree import as_text
from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import METRICS, SCORES
from cl_engine.results.audit import member
from cl_engine.results.lazy_arrays import ManyRuns, Place, lazily
from cl_engine.results.log_file import array, attributes_of, fault, opened, subgroup

TEXTS = ("strategy", "scenario", "status", "run_id")
# name: axes after that of runs, what stands where there is nothing, whether the last axis is that of seeds
MATRICES: dict[str, tuple[tuple[str, ...], float, bool]] = {
    "score": (("evaluation", "task", "seed"), np.nan, True),
    "accuracy": (("evaluation", "task", "seed"), np.nan, True),
    "n_correct": (("evaluation", "task", "seed"), 0, True),
    "n_total": (("evaluation", "task", "seed"), 0, True),
    "evaluation_step": (("evaluation",), -2, False),
    "experience_task": (("experience",), -1, False),
}
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")  # an option that is one
ACCURACY = ("accuracy", "n_correct", "n_total")  # which logs of other measures do not have


@dataclass(frozen=True)
class Found:
    """The part of a log that is read at once.

    >>> Found(Path("log.h5"), {}, [0], {}, {"tasks": 3.0}, {}, {}, ["accuracy"], {}).numbers["tasks"]
    3.0

    Attributes:
        measures: what each task is measured by.
        held: what each of `MATRICES` is called in the log; those that it does not have are not there.
    """

    path: Path
    texts: dict[str, str]
    seeds: list[int]
    scores: dict[str, np.ndarray]
    numbers: dict[str, float]
    options: dict[str, str]
    sizes: dict[str, int]
    measures: list[str]
    held: dict[str, str]


def scanned(paths: Sequence[Path], without: Sequence[str] = (), strict: bool = False) -> xr.Dataset:
    """Return logs as one dataset, a run each along ``run``, their seeds along ``seed``.

    Variables over run and seed are the scores at the last test of all tasks met (``acc``, ``bwt``, ``fwt``,
    ``forgetting``; NaN where tasks are measured by several things); over run, ``experiences``, ``tasks``, ``memory`` (bytes a
    seed holds at the end) and ``seconds`` (all seeds together); over run and task ``task_measure``. ``score``, ``accuracy``,
    ``n_correct``, ``n_total`` (run × evaluation × task × seed), ``evaluation_step`` and ``experience_task`` are read when they
    are asked for, of the runs that are asked for: shorter runs, and of accuracy and its counts those of other measures, are
    filled with NaN, NaN, 0, 0, −2 and −1. Coordinates of ``run`` are ``strategy``, ``scenario``, ``status``, ``run_id``,
    ``path``, and every option that is not the same in all runs (``train.lr``; numbers as such); `grid` makes dimensions of them.

    Args:
        paths: the logs.
        without: sentences on places that have none, which stand in ``left_out`` too.
        strict: refuse if one of them cannot be read; else it is left out, and named in the attribute ``left_out``.

    Raises:
        UsageError: if one cannot be read and ``strict`` is set, or none can.
    """
    found: list[Found] = []
    left_out = list(without)
    if strict and left_out:
        raise UsageError(left_out[0])
    for path in paths:
        try:
            found.append(_scanned(path))
        except Exception as error:  # a file of somebody else's may be odd in any way
            if strict:
                raise
            left_out.append(fault(path, error))
    if not found:
        first = left_out[0] if left_out else "there are no logs"
        raise UsageError(f"none of {len(paths)} logs can be read; the first: {first}" if paths else first)
    seeds = sorted({seed for run in found for seed in run.seeds})
    columns = [[seeds.index(seed) for seed in run.seeds] for run in found]
    data: dict[Hashable, Any] = {}
    for name in SCORES:
        values = np.full((len(found), len(seeds)), np.nan)
        for row, run, places in zip(values, found, columns, strict=True):
            row[places] = run.scores[name]
        data[name] = (
            ("run", "seed"),
            values,
            {"units": "1", "long_name": f"{METRICS[name].meaning}, at the last test of all of them"},
        )
    for name in found[0].numbers:
        data[name] = ("run", np.array([run.numbers[name] for run in found]))
    for name, (axes, fill, by_seed) in MATRICES.items():
        data[name] = _matrix(found, name, axes, fill, len(seeds), columns if by_seed else None)
    texts = np.full((len(found), max(len(run.measures) for run in found)), "", dtype=object)
    for row, run in zip(texts, found, strict=True):
        row[: len(run.measures)] = run.measures
    data["task_measure"] = (("run", "task"), texts)
    options = _differing([run.options for run in found])
    coordinates: dict[Hashable, Any] = {"seed": seeds, **{key: ("run", values) for key, values in options.items()}}
    for name in TEXTS:
        coordinates[name] = ("run", np.array([run.texts[name] for run in found], dtype=object))
    coordinates["path"] = ("run", np.array([str(run.path) for run in found], dtype=object))
    return xr.Dataset(data, coordinates, {"left_out": left_out})


def grid(runs: xr.Dataset, over: Sequence[str] = ("scenario", "strategy")) -> xr.Dataset:
    """Return the dataset with dimensions in the place of ``run``: scenario × strategy × … × seed, NaN where nothing is.

    Options in which runs of the same place differ become dimensions too (``train.lr``). Where two runs hold the same
    seed at the same place, the first of them stands; where they hold different seeds, they are put together.

    Args:
        runs: what `open_runs` returned.
        over: the coordinates of ``run`` that are to be dimensions.

    Raises:
        UsageError: if ``run`` has no such coordinate.
    """
    known = [str(name) for name, values in runs.coords.items() if values.dims == ("run",)]
    for name in over:
        if name not in known:
            raise UsageError(f"runs have no coordinate '{name}'; there are: {', '.join(known)}")
    named = (*over, *_needed(runs, over, known))
    labels = {name: [str(value) for value in runs[name].values] for name in named}
    levels = {name: list(dict.fromkeys(values)) for name, values in labels.items()}
    held = {name: dict(zip(labels[name], runs[name].values, strict=True)) for name in named}
    for name in named:
        if runs[name].dtype.kind in "iuf":
            levels[name].sort(key=held[name].__getitem__)
    places = [tuple(levels[name].index(values[k]) for name, values in labels.items()) for k in range(runs.sizes["run"])]
    shape = tuple(map(len, levels.values()))
    data: dict[Hashable, Any] = {}
    for name in (*SCORES, "experiences", "tasks", "memory", "seconds"):
        values = runs[name].values
        block = np.full((*shape, *values.shape[1:]), np.nan)
        for place, row in zip(places, values, strict=True):
            block[place] = np.where(np.isnan(block[place]), row, block[place])
        data[name] = ((*levels, *(str(dim) for dim in runs[name].dims[1:])), block, dict(runs[name].attrs))
    for name in ("status", "path"):
        texts = np.full(shape, "", dtype=object)
        for place, text in zip(places, runs[name].values, strict=True):
            texts[place] = texts[place] or text
        data[name] = (tuple(levels), texts)
    coordinates: dict[Hashable, Any] = {"seed": runs["seed"].values}
    coordinates.update({name: [held[name][text] for text in texts] for name, texts in levels.items()})
    return xr.Dataset(data, coordinates, dict(runs.attrs))


def _needed(runs: xr.Dataset, over: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the options in which runs of the same place differ."""
    members: dict[tuple[str, ...], list[int]] = {}
    for k in range(runs.sizes["run"]):
        members.setdefault(tuple(str(runs[name].values[k]) for name in over), []).append(k)
    options = [name for name in known if name not in (*over, *TEXTS, "path")]
    return [name for name in options if any(len({*map(str, runs[name].values[held])}) > 1 for held in members.values())]


def _scanned(path: Path) -> Found:
    with opened(path) as file:
        texts = attributes_of(file, TEXTS)
        results = subgroup(file, "results")
        seeds = [int(seed) for seed in array(results, "seed")]
        acc, memory, seconds = (array(results, name) for name in ("acc", "memory", "seconds"))
        held = {name: name for name in MATRICES if name in results or name not in ("score", *ACCURACY)}
        held |= {"score": held.get("score", "accuracy")}  # before format 2.0
        shapes = {name: member(results, found).shape for name, found in held.items()}
        tasks = shapes["score"][1] if len(shapes["score"]) > 1 else 0
        measures = list(map(str, array(results, "task_measure"))) if "task_measure" in results else ["accuracy"] * tasks
        row = _last_measured(acc) if len(set(measures)) < 2 else None
        scores = {"acc": acc[row]} if row is not None else dict.fromkeys(SCORES, np.full(len(seeds), np.nan))
        for name in SCORES:
            if name not in scores:
                scores[name] = array(results, name, row)
        sizes = {
            "evaluation": shapes["score"][0] if shapes["score"] else 0,
            "experience": len(memory),
            "task": tasks,
            "seed": len(seeds),
        }
        fitting = all(shapes[name] == tuple(sizes[axis] for axis in MATRICES[name][0]) for name in held)
        if not fitting or any(len(values) != len(seeds) for values in scores.values()):
            raise UsageError(f"{path} is damaged: its arrays do not fit each other")
        environment = subgroup(file, "environment")
        text = array(environment, "experiment") if "experiment" in environment else "{}"
    numbers = {
        "experiences": float(len(memory)),
        "tasks": float(tasks),
        "memory": float(memory[-1].sum()) if len(memory) else float("nan"),
        "seconds": float(np.nansum(seconds)),
    }
    return Found(path, texts, seeds, scores, numbers, _options(str(text)), sizes, measures, held)


def _last_measured(acc: np.ndarray) -> int | None:
    measured = np.flatnonzero(np.isfinite(acc).any(axis=1))
    return int(measured[-1]) if len(measured) else None


def _options(text: str) -> dict[str, str]:
    """Return the options of an experiment as ``{"train.lr": "0.1", …}``; those of the strategy without its table."""
    try:
        options = json.loads(text)["options"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found = as_text(options) if isinstance(options, Mapping) else {}
    return {name.removeprefix("strategy."): text for name, text in found.items()}


def _differing(options: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
    """Return the options that are not the same in all runs, empty where a run has none of that name."""
    taken = {
        "seed",
        "path",
        "run",
        "task_measure",
        *TEXTS,
        *SCORES,
        *MATRICES,
        "experiences",
        "tasks",
        "memory",
        "seconds",
    }
    found = {}
    for key in dict.fromkeys(key for of_run in options for key in of_run):
        texts = [of_run.get(key, "") for of_run in options]
        if len(set(texts)) > 1:
            found[f"strategy.{key}" if key in taken else key] = _as_numbers(texts)
    return found


def _as_numbers(texts: Sequence[str]) -> np.ndarray:
    """Return the values of an option as numbers, NaN where a run has none, or true and false; as texts where some are neither."""
    texts = ["" if text == "null" else text for text in texts]
    known = [text for text in texts if text]
    if known and all(NUMBER.fullmatch(text) for text in known):
        whole = len(known) == len(texts) and all(text.lstrip("+-").isdigit() and len(text) < 18 for text in texts)
        return np.array([int(text) if whole else float(text or "nan") for text in texts])
    if len(known) == len(texts) and set(known) <= {"true", "false"}:
        return np.array([text == "true" for text in texts])
    return np.array(texts, dtype=object)


def _matrix(
    found: Sequence[Found], name: str, axes: tuple[str, ...], fill: float, seeds: int, columns: list[list[int]] | None
) -> xr.Variable:
    shapes = [tuple(run.sizes[axis] for axis in axes) for run in found]
    shape = tuple(int(size) for size in np.max(shapes, axis=0))
    if columns is not None:
        shape = (*shape[:-1], seeds)
    places = [
        Place(
            run.path, run.texts["run_id"], run.held.get(name, name), own if name in run.held else (0,) * len(axes), fill
        )
        for run, own in zip(found, shapes, strict=True)
    ]
    dtype = np.dtype("f4" if name in ("accuracy", "score") else "i4")
    return xr.Variable(("run", *axes), lazily(ManyRuns(places, shape, dtype, columns)))
