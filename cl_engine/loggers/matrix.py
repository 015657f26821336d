"""R in a log: counts and accuracies of each row, its scores, and the cost of each experience.

Written in blocks of what was taken in since the last time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from cl_engine import events
from cl_engine.core.text import encodable
from cl_engine.data.stream import Stream
from cl_engine.loggers.journal import Block
from cl_engine.loggers.tables import APART, CELLS, grow, scale, string, variable
from cl_engine.metrics.catalogue import METRICS, SCORES

ROWS_AT_ONCE = 64  # of R; as many as a chunk of the file can hold
Scores = dict[str, tuple[float, ...]]
Held = tuple[int, int, dict[str, int], dict[str, int]]  # step, task, bytes by part: those that count, those told apart


class Matrix:
    """Collects what the group ``results`` takes in between two flushes.

    >>> matrix = Matrix(seeds=1)
    >>> matrix.cell(events.Evaluated(step=0, evaluation=0, task_id=0, n_correct=(45,), n_total=50))
    >>> matrix.taken()[1].shape
    (1, 4)
    """

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.cells = 0  # not yet in the file
        self._named = 0
        self._single: list[tuple[int, ...]] = []  # cells: evaluation, task, rows tested, right answers of each seed
        self._blocks: list[np.ndarray] = []  # such cells, [n, 3 + S]
        self._scored: list[tuple[int, int, Scores]] = []  # evaluation, step
        self._begun: dict[int, int] = {}  # the step of each evaluation that has not been scored
        self._memory: list[Held] = []
        self._seconds: list[tuple[int, str, float]] = []  # step, phase

    @staticmethod
    def create(group: h5py.Group, seeds: Sequence[int], phases: Sequence[str], tasks: int | None) -> None:
        """Create the empty arrays, with the dimensions known so far."""
        group.attrs.update({"NX_class": "NXdata", "signal": "accuracy"})
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
        variable(group, "task_name", "str", "1", "name of the task", (task,), (1024,))
        wide = min(tasks or 256, 1024)
        chunk = (max(1, min(64, 8192 // (wide * len(seeds)))), wide, len(seeds))
        axes = (evaluation, task, seed)
        variable(group, "n_correct", "i4", "1", "test rows answered correctly", axes, chunk)
        variable(group, "n_total", "i4", "1", "test rows; 0: not measured", axes, chunk)
        variable(group, "accuracy", "f4", "1", "R: accuracy on the task; NaN: not measured", axes, chunk)
        for name in SCORES:
            variable(group, name, "f8", "1", METRICS[name].meaning, (evaluation, seed), (1024, len(seeds)))
        Matrix.create_memory(group, "memory", "bytes one seed holds, but for those apart")
        Matrix.create_memory(
            group, APART, "bytes that do not count: they follow from the seeds, or serve diagnostics alone"
        )
        variable(
            group, "seconds", "f8", "s", "time spent, all seeds together", (experience, phase), (1024, len(phases))
        )
        grow(group, "task", tasks or 0)

    @staticmethod
    def create_memory(group: h5py.Group, name: str, meaning: str) -> None:
        """Create an array of bytes by experience and part."""
        variable(group, name, "i8", "byte", meaning, (group["experience"], group["part"]), (1024, 8))

    def cell(self, event: events.Evaluated) -> None:
        """Take in a cell of R."""
        self._begun[event.evaluation] = event.step
        self._single.append((event.evaluation, event.task_id, event.n_total, *event.n_correct))
        self.cells += 1
        if len(self._single) == ROWS_AT_ONCE:  # an array takes a fifth of the memory of tuples
            self._close()

    def unchanged(self, event: events.ScoresReused) -> None:
        """Take in cells of R that are as they were."""
        block = np.empty((len(event.task_ids), 3 + self.seeds), dtype=np.int64)
        block[:, 0], block[:, 1], block[:, 2], block[:, 3:] = (
            event.evaluation,
            event.task_ids,
            event.n_total,
            event.n_correct,
        )
        self._close()
        self._begun[event.evaluation] = event.step
        self._blocks.append(block)
        self.cells += len(block)

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
        numbers, tasks = cells[:, 0], cells[:, 1]
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
                self._write_rows(group, cells[first:last])
        for stretch in np.split(cells[:new], np.flatnonzero((np.diff(cells[:new, :2], axis=0) != [0, 1]).any(1)) + 1):
            if len(stretch):
                self._write_rows(group, stretch)
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
        for written in (self._begun, self._scored, self._memory, self._seconds):
            written.clear()
        self.cells = 0

    def taken(self) -> Block:
        """Return what was taken in, and keep it no longer: lists for JSON, and a row a cell ``[n, 3 + S]``."""
        begun = list(self._begun.items())
        lists = {"begun": begun, "scored": self._scored, "memory": self._memory, "seconds": self._seconds}
        self._begun, self._scored, self._memory, self._seconds = {}, [], [], []
        return lists, self._taken_cells()

    def take_up(self, lists: dict[str, Any], cells: np.ndarray) -> None:
        """Take in again what `taken` returned."""
        self._close()
        self._blocks.append(cells)
        self._scored += lists["scored"]
        for number, *_ in lists["scored"]:
            self._begun.pop(number, None)
        self._begun |= dict(lists.get("begun", ()))  # older journals do not say
        self._memory += [(*row, {})[:4] for row in lists["memory"]]  # older journals tell nothing apart
        self._seconds += lists["seconds"]

    def _close(self) -> None:
        """Put single cells, if there are any, behind the blocks."""
        if self._single:
            self._blocks.append(np.array(self._single, dtype=np.int64))
            self._single.clear()

    def _taken_cells(self) -> np.ndarray:
        self._close()
        blocks, self._blocks = self._blocks, []
        return np.concatenate(blocks) if blocks else np.zeros((0, 3 + self.seeds), dtype=np.int64)

    def _write_rows(self, group: h5py.Group, cells: np.ndarray) -> None:
        """Write the smallest block of R that holds these cells; nothing else of it may be in the file."""
        low, high = cells[:, :2].min(axis=0), cells[:, :2].max(axis=0) + 1
        correct = np.zeros((*(high - low), self.seeds), "i4")
        total = np.zeros_like(correct)
        rows, tasks = (cells[:, :2] - low).T
        total[rows, tasks], correct[rows, tasks] = cells[:, 2:3], cells[:, 3:]
        missing = correct == events.NOT_MEASURED
        total[missing] = correct[missing] = 0
        with np.errstate(invalid="ignore"):
            accuracy = (correct / total).astype("f4")
        for name, values in zip(CELLS, (correct, total, accuracy), strict=True):
            group[name][low[0] : high[0], low[1] : high[1]] = values

    def _name_tasks(self, group: h5py.Group, stream: Stream) -> None:
        names = group["task_name"]
        if len(names) > self._named:
            names[self._named :] = [encodable(stream.name_of(task)) for task in range(self._named, len(names))]
            self._named = len(names)

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


def _runs(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the longest parts of a sequence whose first members are numbers that follow one another."""
    start = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or items[end][0] != items[end - 1][0] + 1:
            yield items[start:end]
            start = end


def _last_of_each(cells: np.ndarray) -> np.ndarray:
    """Return cells in the order of evaluation and task, of those that came twice the last."""
    keys = (cells[:, 0] << 32) + cells[:, 1]
    if (np.diff(keys) > 0).all():  # as they mostly come
        return cells
    order = np.argsort(keys, kind="stable")
    last = np.append(np.diff(keys[order]) > 0, True)
    return cells[order[last]]  # type: ignore[no-any-return]
