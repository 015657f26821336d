"""A log that is filled with what other logs hold: with the rows of a run, or of several that differ in seeds alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from cl_engine.data.stream import Stream
from cl_engine.loggers.layout import create_validation
from cl_engine.loggers.tables import APART, CELLS, COUNTS, OF_TASKS, VALIDATED, VALIDATION, Table, grow
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.joined_rows import Columns, NotAlike, joined_outcomes, joined_rows, of_all
from cl_engine.results.log_file import array

ROWS_AT_ONCE = 64  # of R


@dataclass(frozen=True)
class Part:
    """An open log that rows are taken from.

    >>> import h5py
    >>> Part(h5py.File.in_memory(), (0, 1)).seeds
    (0, 1)

    Attributes:
        file: the log.
        seeds: its seeds, in its order.
    """

    file: h5py.File
    seeds: tuple[int, ...]

    @property
    def results(self) -> h5py.Group:
        """The group of the accuracy matrix and what follows from it."""
        return self.file["results"]


def fill(
    log: h5py.File,
    tables: dict[str, Table],
    parts: Sequence[Part],
    seeds: Sequence[int],
    evaluations: int,
    stream: Stream,
) -> None:
    """Fill a log that was just begun, for the seeds of all parts, with what the parts hold.

    Args:
        log: the log, with the arrays and tables that a log begins with.
        tables: the tables that a log has, by name (`cl_engine.loggers.columns.all_tables`).
        parts: what is taken; each as far as all of it is to be.
        seeds: those of the log, in its order.
        evaluations: how many rows of R are taken.
        stream: what is learned.

    Raises:
        NotAlike: naming what the parts do not tell alike, though they differ in seeds alone.
    """
    results = log["results"]
    first = parts[0].results
    for name in ("evaluation_step", "experience_task"):
        if any(not np.array_equal(first[name][:], part.results[name][:]) for part in parts[1:]):
            raise NotAlike(f"results/{name} is not the same for all seeds")
    grow(results, "evaluation", evaluations)
    grow(results, "experience", len(first["experience"]))
    grow(results, "task", max(len(results["task"]), len(first["task"])))
    results["evaluation_step"][:] = first["evaluation_step"][:evaluations]
    results["experience_task"][:] = first["experience_task"][:]
    places = [[list(seeds).index(seed) for seed in part.seeds] for part in parts]
    counts = [len(part.seeds) for part in parts]
    for name in OF_TASKS:
        if name == "task_guess":
            results[name][: len(first[name])] = of_all([part.results[name][:] for part in parts], counts)
    _fill_matrix(results, [part.results for part in parts], places, SCORES)
    validated = [VALIDATION in part.results for part in parts]
    if any(validated):
        if not all(validated):
            raise NotAlike("scores on validation rows are not there for all seeds")
        create_validation(results, stream)
        _fill_matrix(results[VALIDATION], [part.results[VALIDATION] for part in parts], places, VALIDATED)
    _fill_costs(results, parts, counts)
    _fill_tables(log, tables, parts, seeds, evaluations)


def _fill_matrix(
    results: h5py.Group, parts: Sequence[h5py.Group], places: Sequence[Sequence[int]], scores: Sequence[str]
) -> None:
    """Write the scores that follow from R, then R and the sums it is a function of, some rows at a time."""
    for name in scores:
        found = np.full(results[name].shape, np.nan)
        for part, at in zip(parts, places, strict=True):
            found[:, at] = part[name][: len(found)]
        results[name][:] = found
    counted = "n_correct" in results
    for name in COUNTS if counted else CELLS:
        target = results[name]
        for start in range(0, len(target), ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, len(target)))
            block = np.full((rows.stop - start, *target.shape[1:]), target.fillvalue, target.dtype)
            for part, at in zip(parts, places, strict=True):
                cells = _cells(part, name, rows)
                if name == "sums":
                    block[:, : cells.shape[1], at, : cells.shape[3]] = cells
                else:
                    block[:, : cells.shape[1], at] = cells
            target[rows] = block


def _cells(results: h5py.Group, name: str, rows: slice) -> Any:
    """Return rows of R or of its sums; of a log that counts answers, as one of several measures has them."""
    if name in results:
        return results[name][rows]
    right, total = (results[count][rows].astype(float) for count in COUNTS[:2])
    measured = total > 0
    return np.stack([np.where(measured, right, np.nan), np.where(measured, total, np.nan)], axis=3)


def _fill_costs(results: h5py.Group, parts: Sequence[Part], counts: Sequence[int]) -> None:
    """Write memory, which is one seed's, and seconds, which are those of all together."""
    names = list(dict.fromkeys(str(name) for part in parts for name in array(part.results, "part")))
    grow(results, "part", len(names))
    results["part"][:] = names
    for name in ("memory", APART):
        found = []
        for part in parts:
            held = np.zeros((len(part.results["experience"]), len(names)), np.int64)
            held[:, [names.index(str(own)) for own in array(part.results, "part")]] = part.results[name][:]
            found.append(held)
        results[name][:] = of_all(found, counts)
    results["seconds"][:] = _summed([part.results["seconds"][:] for part in parts])


def _summed(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return sums of what there is; NaN where there is nothing."""
    nothing = np.all([np.isnan(each) for each in values], axis=0)
    return np.where(nothing, np.nan, np.nansum(np.stack(values), axis=0))


def _fill_tables(
    log: h5py.File, tables: dict[str, Table], parts: Sequence[Part], seeds: Sequence[int], evaluations: int
) -> None:
    of_parts = [part.seeds for part in parts]
    for name, table in tables.items():
        there = [name in part.file for part in parts]
        if not any(there):
            continue
        if not all(there):
            raise NotAlike(f"the table {name} is not there for all seeds")
        read = [_columns(part.file[name]) for part in parts]
        if name == "metrics":  # those of R are computed anew from all of it
            read = [{key: values[own["task"] >= 0] for key, values in own.items()} for own in read]
        if len(parts) == 1:
            found = _of_longer(name, read[0], parts[0].file, evaluations)
        elif name == "outcomes":
            transfers = [_columns(part.file["transfers"]) for part in parts]
            found = joined_outcomes(transfers, read, of_parts, seeds)
        else:
            found = joined_rows(name, read, of_parts, seeds)
        if not len(found["step"]) and table.optional:
            continue
        if name not in log:
            table.create(log)
        group = log[name]
        grow(group, "row", len(found["step"]), {column.name: 0 for column in table.columns})
        for column in table.columns:
            if column.name in found:
                group[column.name][:] = found[column.name]


def _of_longer(name: str, columns: Columns, taken: h5py.File, evaluations: int) -> Columns:
    """Return a table without what a longer run would not have: metrics of tests made again, and what is of the end alone."""
    if name not in ("metrics", "metric_sums"):
        return columns
    about = json.loads(str(array(taken["environment"], "metrics")))
    kept = columns["evaluation"] < evaluations
    if name == "metric_sums":
        kept &= np.array([about[metric]["keep"] == "all" for metric in columns["metric"]], dtype=bool)
    return {key: values[kept] for key, values in columns.items()}


def _columns(group: h5py.Group) -> Columns:
    return {name: array(group, name) for name in group if name != "row"}
