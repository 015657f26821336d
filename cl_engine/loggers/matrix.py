"""R in a log: sums and scores of each row, what follows from them, and the cost of each experience.

Written in blocks of what was taken in since the last time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import h5py
import numpy as np

from cl_engine import events
from cl_engine.core.text import encodable
from cl_engine.data.stream import Stream
from cl_engine.loggers.journal import Block
from cl_engine.loggers.tables import APART, CELLS, COUNTS, grow
from cl_engine.metrics.catalogue import SCORES

ROWS_AT_ONCE = 64  # of R; as many as a chunk of the file can hold
Scores = dict[str, tuple[float, ...]]
Held = tuple[int, int, dict[str, int], dict[str, int]]  # step, task, bytes by part: those that count, those told apart


class Matrix:
    """Collects what the group ``results`` takes in between two flushes.

    >>> matrix = Matrix(seeds=1)
    >>> matrix.cell(events.Evaluated(step=0, evaluation=0, task_id=0, **events.counts((45,), 50)))
    >>> matrix.taken()[1].shape
    (1, 5)
    """

    def __init__(self, seeds: int, sums: int = 2) -> None:
        """Collect cells of so many seeds, and of so many sums each."""
        self.seeds, self.sums = seeds, sums
        self.cells = 0  # not yet in the file
        self._named = 0
        self._single: list[tuple[float, ...]] = []  # cells: evaluation, task, score of each seed, sums of each seed
        self._blocks: list[np.ndarray] = []  # such cells, [n, 2 + S + S · K]
        self._guesses: list[tuple[int, float]] = []  # task, score
        self._scored: list[tuple[int, int, Scores]] = []  # evaluation, step
        self._begun: dict[int, int] = {}  # the step of each evaluation that has not been scored
        self._memory: list[Held] = []
        self._seconds: list[tuple[int, str, float]] = []  # step, phase

    def cell(self, event: events.Evaluated) -> None:
        """Take in a cell of R."""
        self._begun[event.evaluation] = event.step
        sums = chain.from_iterable((*own, *[math.nan] * (self.sums - len(own)))[: self.sums] for own in event.sums)
        self._single.append((event.evaluation, event.task_id, *event.score, *sums))
        self.cells += 1
        if len(self._single) == ROWS_AT_ONCE:  # an array takes a fifth of the memory of tuples
            self._close()

    def unchanged(self, event: events.ScoresReused) -> None:
        """Take in cells of R that are as they were."""
        block = np.full((len(event.task_ids), self._width), np.nan)
        scores, sums = self._parts(block)
        block[:, 0], block[:, 1], scores[:], sums[:, :, : event.sums.shape[2]] = (
            event.evaluation,
            event.task_ids,
            event.score,
            event.sums[:, :, : self.sums],
        )
        self._close()
        self._begun[event.evaluation] = event.step
        self._blocks.append(block)
        self.cells += len(block)

    def guess(self, event: events.GuessScored) -> None:
        """Take in what a guess comes to on a task."""
        self._guesses.append((event.task_id, event.score))

    def scored(self, event: events.Scored) -> None:
        """Take in the scores of a row."""
        self._begun.pop(event.evaluation, None)
        self._scored.append((event.evaluation, event.step, {name: getattr(event, name) for name in SCORES}))
        self.seconds(event.step, "evaluate", event.seconds)

    def learned(self, event: events.TaskLearned) -> None:
        """Take in an experience's memory and duration."""
        counted, apart = ({encodable(part): held for part, held in of.items()} for of in (event.memory, event.apart))
        self._memory.append((event.step, event.task_id, counted, apart))
        self.seconds(event.step, "learn", event.seconds)

    def seconds(self, step: int, phase: str, seconds: float) -> None:
        """Take in the time that a phase of an experience took (that of the untrained learner is not kept)."""
        if step >= 0:
            self._seconds.append((step, phase, seconds))

    def flush(self, group: h5py.Group, stream: Stream) -> None:
        """Write all that was taken in, in blocks: an array of HDF5 takes as long for a number as for a thousand."""
        cells = _last_of_each(self._taken_cells())
        numbers, tasks = cells[:, :2].astype(np.int64).T
        held = len(group["evaluation"])
        known = (*(number for number, *_ in self._scored), *self._begun)
        ends = [held, *(number + 1 for number in known), int(numbers.max(initial=-1)) + 1]
        grow(group, "evaluation", max(ends))
        for scored in _runs(self._scored):
            place = slice(scored[0][0], scored[-1][0] + 1)
            group["evaluation_step"][place] = [step for _, step, _ in scored]
            for name in SCORES:
                group[name][place] = [scores[name] for *_, scores in scored]
        for number, step in self._begun.items():  # one that a run was broken off in stays without scores
            group["evaluation_step"][number] = step
        grow(group, "task", max(len(group["task"]), int(tasks.max(initial=-1)) + 1))
        # rows are written one below the other only where nothing of them can stand in the file yet
        new = np.searchsorted(numbers, held)
        for start in range(held, max(ends), ROWS_AT_ONCE):
            first, last = np.searchsorted(numbers, (start, start + ROWS_AT_ONCE))
            if first < last:
                self.write_rows(group, cells[first:last])
        for stretch in np.split(cells[:new], np.flatnonzero((np.diff(cells[:new, :2], axis=0) != [0, 1]).any(1)) + 1):
            if len(stretch):
                self.write_rows(group, stretch)
        for task, score in self._guesses:
            grow(group, "task", max(len(group["task"]), task + 1))
            group["task_guess"][task] = score
        self._name_tasks(group, stream)
        steps = [held[0] for held in self._memory] + [step for step, *_ in self._seconds]
        grow(group, "experience", max([len(group["experience"]), *(step + 1 for step in steps)]))
        for memory in _runs(self._memory):
            self._write_memory(group, memory)
        if self._seconds:
            first, last = min(step for step, *_ in self._seconds), max(step for step, *_ in self._seconds)
            phases = [name.decode() for name in group["phase"][:]]
            block = group["seconds"][first : last + 1]
            for step, phase, seconds in self._seconds:
                block[step - first, phases.index(phase)] = seconds
            group["seconds"][first : last + 1] = block
        for written in (self._begun, self._scored, self._memory, self._seconds, self._guesses):
            written.clear()
        self.cells = 0

    def taken(self) -> Block:
        """Return what was taken in, and keep it no longer: lists for JSON, and a row a cell ``[n, 2 + S + S · K]``."""
        begun = list(self._begun.items())
        lists = {"begun": begun, "scored": self._scored, "memory": self._memory, "seconds": self._seconds}
        lists["guesses"] = self._guesses
        self._begun, self._scored, self._memory, self._seconds, self._guesses = {}, [], [], [], []
        return lists, self._taken_cells()

    def take_up(self, lists: dict[str, Any], cells: np.ndarray) -> None:
        """Take in again what `taken` returned."""
        self._close()
        self._blocks.append(cells if cells.dtype.kind == "f" else _of_counts(cells))
        self._guesses += lists.get("guesses", ())
        self._scored += lists["scored"]
        for number, *_ in lists["scored"]:
            self._begun.pop(number, None)
        self._begun |= dict(lists.get("begun", ()))  # older journals do not say
        self._memory += [(*row, {})[:4] for row in lists["memory"]]  # older journals tell nothing apart
        self._seconds += lists["seconds"]

    def _close(self) -> None:
        """Put single cells, if there are any, behind the blocks."""
        if self._single:
            self._blocks.append(np.array(self._single, dtype=float))
            self._single.clear()

    def _taken_cells(self) -> np.ndarray:
        self._close()
        blocks, self._blocks = self._blocks, []
        return np.concatenate(blocks) if blocks else np.zeros((0, self._width))

    @property
    def bytes(self) -> int:
        """Bytes of the cells that are not yet in the file."""
        return 8 * self._width * self.cells

    @property
    def _width(self) -> int:
        return 2 + self.seeds * (1 + self.sums)

    def _parts(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores ``[n, S]`` and sums ``[n, S, K]`` of cells, as views."""
        return cells[:, 2 : 2 + self.seeds], cells[:, 2 + self.seeds :].reshape(len(cells), self.seeds, self.sums)

    def write_rows(self, group: h5py.Group, cells: np.ndarray) -> None:
        """Write the smallest block of R that holds these cells; nothing else of it may be in the file."""
        where = cells[:, :2].astype(np.int64)
        low, high = where.min(axis=0), where.max(axis=0) + 1
        rows, tasks = (where - low).T
        scores, sums = (np.full((*(high - low), *part.shape[1:]), np.nan) for part in self._parts(cells))
        scores[rows, tasks], sums[rows, tasks] = self._parts(cells)
        if "n_correct" in group:
            right, total = np.nan_to_num(sums).astype("i4").transpose(3, 0, 1, 2)
            named: Any = zip(COUNTS, (right, total, scores.astype("f4")), strict=True)
        else:
            named = zip(CELLS, (scores.astype("f4"), sums), strict=True)
        for name, values in named:
            group[name][low[0] : high[0], low[1] : high[1]] = values

    def _name_tasks(self, group: h5py.Group, stream: Stream) -> None:
        if len(group["task"]) == self._named:
            return
        new = range(self._named, len(group["task"]))
        targets = [stream.target(task) for task in new]
        for name, values in (
            ("task_name", [encodable(stream.name_of(task)) for task in new]),
            ("task_measure", [target.measure.name for target in targets]),
            ("task_unit", [target.measure.unit for target in targets]),
            ("task_direction", [1 if target.measure.higher else -1 for target in targets]),
            ("task_target", [encodable(target.key) for target in targets]),
            ("task_free", [int(stream.is_free(task)) for task in new]),
        ):
            group[name][self._named :] = values
        self._named = new.stop

    @staticmethod
    def _write_memory(group: h5py.Group, memory: Sequence[Held]) -> None:
        """Write task and memory of experiences that follow one another."""
        parts = [name.decode() for name in group["part"][:]]
        named = dict.fromkeys(name for *_, held, apart in memory for name in (*held, *apart))
        new = [name for name in named if name not in parts]
        if new:
            grow(group, "part", len(parts) + len(new))
            group["part"][len(parts) :] = new
            parts += new
        place = slice(memory[0][0], memory[-1][0] + 1)
        group["experience_task"][place] = [task for _, task, *_ in memory]
        group["memory"][place] = [[held.get(name, 0) for name in parts] for *_, held, _ in memory]
        group[APART][place] = [[apart.get(name, 0) for name in parts] for *_, apart in memory]


def together(event: events.TaskLearned) -> events.TaskLearned:
    """Return an event whose memory is all that the state holds."""
    return replace(event, memory=dict(Counter(event.memory) + Counter(event.apart)), apart={})


def _of_counts(cells: np.ndarray) -> np.ndarray:
    """Return cells as they are kept, given some as journals had them before format 2.0: task, rows, right of each seed."""
    right, total = cells[:, 3:].astype(float), cells[:, 2:3].astype(float)
    right[cells[:, 3:] == events.NOT_MEASURED] = np.nan
    sums = np.stack([right, np.where(np.isnan(right), np.nan, total)], axis=2)
    with np.errstate(invalid="ignore"):
        return np.concatenate([cells[:, :2], right / total, sums.reshape(len(cells), -1)], axis=1)


def _runs(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the longest parts of a sequence whose first members are numbers that follow one another."""
    start = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or items[end][0] != items[end - 1][0] + 1:
            yield items[start:end]
            start = end


def _last_of_each(cells: np.ndarray) -> np.ndarray:
    """Return cells in the order of evaluation and task, of those that came twice the last."""
    evaluations, tasks = cells[:, :2].astype(np.int64).T
    keys = (evaluations << 32) + tasks
    if (np.diff(keys) > 0).all():  # as they mostly come
        return cells
    order = np.argsort(keys, kind="stable")
    last = np.append(np.diff(keys[order]) > 0, True)
    return cells[order[last]]  # type: ignore[no-any-return]
