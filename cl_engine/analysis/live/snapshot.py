"""Snapshots of a running run, each read from one open file so that all of it is of one moment."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cl_engine.analysis.names import one_line
from cl_engine.results.audit import audit
from cl_engine.results.log_file import attributes_of, opened

RECENT = 10  # experiences whose mean duration tells how long the next ones take
TAIL = 4000  # rows at the end of a table that are looked at
SILENT = 120.0  # seconds without news (a log may be a minute old) after which a run is said to be silent, or longer if it is slow


@dataclass(frozen=True)
class Snapshot:
    """The state of a run by its log at one moment; accuracies and scores are means over seeds.

    >>> from pathlib import Path
    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> folder = Experiment.of(small.scenario(), "finetune").run(Path("run"), device="cpu")
    >>> found = snapshot(folder / "log.h5")
    >>> found.status, found.done, found.seeds
    ('finished', 3, 1)

    Attributes:
        name: scenario and strategy.
        status: running, stopped, failed or finished.
        seeds: how many.
        done: experiences learned; ``planned``: of how many, None if that cannot be known.
        tasks: the names of the tasks known so far.
        row: score on each task in the last test of all tasks met ``[T]``, NaN where not tested; ``row_step``: after which
            experience.
        acc, bwt, forgetting: by experience ``[done]``, NaN where not all tasks met were tested, or where they are measured by
            several things.
        by_measure: the mean of ``row`` over the tasks learned, by what they are measured by.
        less: of which measures less is better.
        curve: test score on the task learned last while it was learned, or its training loss; ``curve_of`` says which.
        memory: bytes of one seed by part.
        events: what the strategy told of last: experience, kind, numbers.
        each: seconds that an experience takes now; NaN if unknown.
        patience: seconds without news after which something is wrong.
        updated: when the log was saved; None if it does not say.
    """

    name: str
    status: str
    seeds: int
    done: int
    planned: int | None
    tasks: list[str]
    row: np.ndarray
    row_step: int
    acc: np.ndarray
    bwt: np.ndarray
    forgetting: np.ndarray
    by_measure: dict[str, float]
    less: frozenset[str]
    curve: np.ndarray
    curve_of: str
    memory: dict[str, int]
    events: list[tuple[int, str, str]]
    each: float
    patience: float
    updated: datetime | None

    @property
    def silence(self) -> float:
        """Seconds since the log was saved, by this machine's clock; 0 if that is behind."""
        return 0.0 if self.updated is None else max(0.0, (datetime.now(UTC) - self.updated).total_seconds())

    @property
    def left(self) -> float:
        """Seconds until the run is done; NaN if that cannot be known."""
        if self.planned is None:
            return math.nan
        return max(0.0, (self.planned - self.done) * self.each - min(self.silence, self.patience))


def snapshot(path: Path) -> Snapshot:
    """Read what a log says now.

    Raises:
        UsageError: if there is no log, it is not one of ours, or it cannot be read, perhaps for a moment only.
        IndexError, AttributeError: if its parts do not fit each other.
    """
    with opened(path) as file:
        attributes = attributes_of(file)
        audit(file)
        found = file["results"]
        options = json.loads(file["environment/experiment"][()].decode())["options"]
        done = len(found["experience"])
        steps = found["evaluation_step"][:]
        measures, less = _measures(found)
        scores = {name: np.full(done, np.nan) for name in ("acc", "bwt", "forgetting")}
        there = (steps >= 0) & (steps < done)
        for name, values in scores.items() if len(set(measures)) < 2 else ():
            values[steps[there]] = found[name][:].mean(axis=1)[there]
        met = set(found["experience_task"][:].tolist())
        whole = np.flatnonzero(there & _of_all(found, steps, len(set(measures)) > 1))
        r = found["score" if "score" in found else "accuracy"]
        row = r[whole[-1]].mean(axis=1) if len(whole) else np.full(len(found["task"]), np.nan)
        learned = [task for task in range(len(row)) if task in met and np.isfinite(row[task])]
        seconds = np.nan_to_num(found["seconds"][-RECENT:]).sum(axis=1)
        saving = np.nan_to_num(found["seconds"][-RECENT:, -1]).max(initial=0.0)
        curve, curve_of = _curve(file, done, measures)
        return Snapshot(
            name=one_line(f"{attributes['scenario']}, {attributes['strategy']}"),
            status=one_line(attributes["status"]),
            seeds=len(found["seed"]),
            done=done,
            planned=_planned(options, done, len(found["task"]), attributes["status"]),
            tasks=[one_line(name.decode(errors="replace")) for name in found["task_name"][:]],
            row=np.asarray(row, dtype=float),
            row_step=int(steps[whole[-1]]) if len(whole) else -1,
            **scores,
            by_measure={
                name: float(np.mean([row[task] for task in learned if measures[task] == name]))
                for name in dict.fromkeys(measures[task] for task in learned)
            },
            less=less,
            curve=curve,
            curve_of=curve_of,
            memory=_memory(found),
            events=_events(file),
            each=float(seconds.mean()) if len(seconds) else math.nan,
            patience=max(
                SILENT, 5 * float(seconds.max(initial=0)), 5 * saving / options["agenda"].get("save_share", 1)
            ),
            updated=_when(attributes.get("updated", "")),
        )


def _measures(found: h5py.Group) -> tuple[list[str], frozenset[str]]:
    """Return what each task is measured by, and of which of these less is better."""
    if "task_measure" not in found:  # before format 2.0
        return ["accuracy"] * len(found["task"]), frozenset()
    names = [one_line(name.decode(errors="replace")) for name in found["task_measure"][:]]
    return names, frozenset(name for name, way in zip(names, found["task_direction"][:], strict=True) if way < 0)


def _of_all(found: h5py.Group, steps: np.ndarray, several: bool) -> np.ndarray:
    """Return which evaluations tested all tasks met: those with an ACC, or of several measures as their own cells tell."""
    if not several:
        return np.asarray(np.isfinite(found["acc"][:]).any(axis=1))
    tested, tasks = np.isfinite(found["score"][:]).any(axis=2), found["experience_task"][:]
    met = [tasks[: step + 1][tasks[: step + 1] < tested.shape[1]] for step in steps.tolist()]
    return np.array([bool(len(own) and row[own].all()) for row, own in zip(tested, met, strict=True)], dtype=bool)


def _planned(options: Mapping[str, Any], done: int, tasks: int, status: str) -> int | None:
    """Return how many experiences there are to be: the log knows all tasks of a stream with an end, and what comes again.

    None of a stream without end, whose tasks become known as they come into view, and where there were more already.
    """
    stream, ahead = options["stream"], options["agenda"].get("evaluate_ahead", 0)
    if status == "finished":
        return done
    if stream.get("n", 0) is None and tasks <= done + ahead:
        return None
    again = stream.get("revisit") or 0
    planned = tasks * (1 + again) if isinstance(again, int) else tasks + len(again)
    return planned if planned >= done else None


def _curve(file: h5py.File, done: int, measures: list[str]) -> tuple[np.ndarray, str]:
    """Return how the last experience was learned, by points, and what the numbers are."""
    for table, counted in (("curves", "batch"), ("epochs", "epoch")):
        tail = _tail(file[table])
        if not len(tail["step"]):
            continue
        last = tail["step"] == min(int(tail["step"].max()), done - 1)
        values = _scores(tail) if table == "curves" else tail["loss"]
        points = tail[counted][last] if table == "curves" else tail["fit"][last] * 10**6 + tail[counted][last]
        if len(points) and np.unique(points).size > 1:
            means = [float(values[last][points == point].mean()) for point in np.unique(points)]
            task = int(tail["task"][last][0])
            score = measures[task] if task < len(measures) else "score"
            label = f"test {score}" if table == "curves" else "training loss"
            return np.array(means), f"{label} while learning experience {int(tail['step'][last][0])}"
    return np.empty(0), ""


def _scores(tail: dict[str, np.ndarray]) -> np.ndarray:
    """Return the scores of tests; logs of before format 2.0 have their counts."""
    return tail["score"] if "score" in tail else tail["n_correct"] / np.maximum(tail["n_total"], 1)


def _memory(found: h5py.Group) -> dict[str, int]:
    if not len(found["memory"]):
        return {}
    names = [one_line(name.decode(errors="replace")) for name in found["part"][:]]
    return {name: int(held) for name, held in zip(names, found["memory"][-1], strict=True)}


def _events(file: h5py.File, most: int = 5) -> list[tuple[int, str, str]]:
    """Return the last events of the strategy, the newest last, each with its numbers, mean over seeds."""
    tail = _tail(file["events"])
    told = []
    for event in np.unique(tail["event"])[-most:]:
        rows = np.flatnonzero(tail["event"] == event)
        numbers: dict[str, list[float]] = {}
        for row in rows:
            numbers.setdefault(one_line(str(tail["name"][row])), []).append(float(tail["value"][row]))
        text = ", ".join(f"{name} {np.mean(values):.4g}" for name, values in numbers.items())
        told.append((int(tail["step"][rows[0]]), one_line(str(tail["kind"][rows[0]])), text))
    return told


def _tail(table: h5py.Group) -> dict[str, np.ndarray]:
    return {
        name: (column.asstr(errors="replace") if h5py.check_string_dtype(column.dtype) else column)[-TAIL:]
        for name, column in table.items()
        if name != "row"
    }


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
