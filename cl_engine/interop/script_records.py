"""Records of a script that drives its own loop: its experiences, learning curves and rows of R, as events."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cl_engine import events
from cl_engine.interop.task_assignment import Content, TaskAssignment
from cl_engine.metrics.running import Ledger

Cells = Mapping[int, tuple[int, int]]  # right answers and rows tested, by task
Memory = Callable[[], dict[str, int]]  # what counts the bytes held now, by part
UNBOUNDED = ("online",)  # what pieces have in common that do not tell of which experience they are


class Rows:
    """The rows of R, one for each state of the learner that was tested outside of training, and their scores.

    Evaluations without training in between fill the same row, so that a loop over test experiences makes one.

    >>> rows = Rows()
    >>> rows.learned(0, 0)
    >>> [type(event).__name__ for event in rows.tested(0, {0: (3, 4)}, seconds=0.1)]
    ['Evaluated', 'Scored']
    >>> rows.tested(0, {1: (1, 4)}, seconds=0.1)[-1].acc, rows.count
    ((0.75,), 1)
    """

    def __init__(self) -> None:
        self.count = 0
        self._ledger = self._before = Ledger(1)
        self._cells: dict[int, tuple[int, int]] | None = None  # of the open row; None: the next one is another
        self._seconds = 0.0

    def learned(self, step: int, task: int) -> None:
        """Take in that an experience was learned: what is tested from now on is another row."""
        self._cells = None
        self._ledger.learned(step, task)

    def tested(self, step: int, cells: Cells, seconds: float) -> list[events.Event]:
        """Take in an evaluation after an experience (−1: before the first) and return what is to be logged of it."""
        if self._cells is None:
            self._cells, self._seconds, self._before = {}, 0.0, self._ledger
            self.count += 1
        self._cells |= cells
        self._seconds += seconds
        # from the state before the row: scores close a row, and this one may be tested further
        self._ledger = copy.deepcopy(self._before)
        self._ledger.row(step)
        tasks = sorted(self._cells)
        right, total = (np.array([self._cells[task][k] for task in tasks]) for k in (0, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            self._ledger.put(np.array(tasks), (right / total)[:, None])
        scores: dict[str, Any] = {name: tuple(values.tolist()) for name, values in self._ledger.scores().items()}
        where: dict[str, Any] = {"step": step, "evaluation": self.count - 1}
        told: list[events.Event] = [
            events.Evaluated(**where, task_id=task, **events.counts((right,), total))
            for task, (right, total) in sorted(cells.items())
        ]
        return [*told, events.Scored(**where, seconds=self._seconds, **scores)]


@dataclass
class Training:
    """Training that is one experience in the log, or one for each task where it brings several.

    Attributes:
        piece: what the pieces of one experience have in common; None: it is no piece.
        of: how many pieces there are; None: not known.
        contents: what was trained so far, a piece each.
        pieces, batches, epochs, seconds: how much of it; epochs are those of the present piece.
        memory: bytes held at its end, by part.
        step, task: under which it is logged; None: to be told by the next test.
        waiting: what is to be logged then.
        last: the last test in the middle of it: after how many batches, cells, seconds.

    >>> Training(piece=("train", 0), of=3).pieces
    0
    """

    piece: tuple[Any, ...] | None = None
    of: int | None = None
    contents: list[Content] = field(default_factory=list)
    pieces: int = 0
    batches: int = 0
    epochs: int = 0
    seconds: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    step: int | None = None
    task: int | None = None
    waiting: list[Any] = field(default_factory=list)
    last: tuple[int, dict[int, tuple[int, int]], float] | None = None


class Records:
    """Takes in what a script trains and tests; what is to be logged of it is in ``told``.

    Which task an experience belongs to is decided when the test stream is known, at the first test of it.

    >>> records = Records()
    >>> records.begin([Content(index=0, rows=5, labels={0: 5}, classes={0: 5})], memory=dict)
    >>> records.end(1.0, memory=dict)
    >>> records.tasks.add_test(Content(index=0, rows=2, labels={0: 2}, classes={0: 2}), of=1)
    >>> records.tested({(0, None): (1, 2)}, inside=False, seconds=0.1, memory=dict)
    >>> [type(event).__name__ for event in records.told]
    ['TaskStarted', 'TaskLearned', 'Evaluated', 'Scored']
    """

    def __init__(self) -> None:
        self.told: list[events.Event] = []
        self.tasks, self.rows = TaskAssignment(), Rows()
        self._step = -1
        self._met: set[int] = set()  # tasks learned, or being learned
        self._now: Training | None = None
        self._over: list[Training] = []  # trained, and not logged before the next test

    def begin(
        self,
        contents: Sequence[Content],
        memory: Memory,
        piece: tuple[Any, ...] | None = None,
        of: int | None = None,
        first: bool = False,
    ) -> None:
        """Take in that an experience is about to be trained, or a ``piece`` of one, ``of`` so many, perhaps its ``first``."""
        if self._now and (piece is None or piece != self._now.piece or first):
            self._end(memory)
        self._now = self._now or Training(piece, of)
        self._now.contents += contents

    def batch(self) -> None:
        """Take in that a batch was learned."""
        self._training.batches += 1

    def epoch(self, loss: float, epochs: int, seconds: float) -> None:
        """Take in that an epoch of ``epochs`` is over."""
        now = self._training
        where = {"fit": now.pieces, "epoch": now.epochs, "epochs": epochs}
        now.waiting.append(events.EpochEnded(step=-1, task_id=-1, loss=(loss,), seconds=seconds, **where))
        now.epochs += 1
        self._tell_waiting(now)

    def end(self, seconds: float, memory: Memory) -> None:
        """Take in that an experience, or a piece of one, was trained."""
        now = self._training
        now.seconds, now.pieces, now.epochs = now.seconds + seconds, now.pieces + 1, now.epochs if not now.piece else 0
        if now.piece is None or now.pieces == now.of:
            self._end(memory)

    def tested(
        self, counts: Mapping[tuple[int, int | None], tuple[int, int]], inside: bool, seconds: float, memory: Memory
    ) -> None:
        """Take in an evaluation, ``inside`` a call that trains or not.

        ``counts`` are right answers and rows, by test experience and, where it is mixed, task label.
        """
        if self._now and self._now.piece == UNBOUNDED and not inside:
            self._end(memory)  # nothing else will say where an experience ends
        self._assign()
        cells: dict[int, tuple[int, int]] = {}
        for (index, label), (right, total) in counts.items():
            task = self.tasks.of_test(index, label)
            before = cells.get(task, (0, 0))
            cells[task] = (before[0] + right, before[1] + total)
        if self._now:
            self._midway(self._now, cells, seconds)
        else:
            self.told += self.rows.tested(self._step, cells, seconds)

    def finish(self, whole: bool, memory: Memory) -> None:
        """Take in that nothing follows; not ``whole``: what is being trained was broken off."""
        now = self._now
        if now and now.piece and whole:
            self._end(memory)
        self._assign()

    @property
    def _training(self) -> Training:
        assert self._now is not None
        return self._now

    def _end(self, memory: Memory) -> None:
        now, self._now = self._training, None
        now.memory = memory()
        self._over.append(now)
        if self.tasks.complete:
            self._log_over()

    def _log_over(self) -> None:
        over, self._over = self._over, []
        for training in over:
            self._log(training)

    def _assign(self) -> None:
        """Log what is over, and decide what the experience being trained is, as far as its test stream is known now."""
        self._log_over()
        if self._now:
            self._place(self._now)

    def _place(self, training: Training) -> None:
        """Decide under which step and task training is logged: a task that is new, else that with the most rows."""
        if training.task is None:
            rows = self.tasks.of_training(training.contents)
            new = [task for task in rows if task not in self._met]
            self._step += 1
            training.step, training.task = self._step, new[0] if new else max(rows, key=lambda task: rows[task])
            self._met.add(training.task)
        self._tell_waiting(training)

    def _tell_waiting(self, training: Training) -> None:
        if training.task is not None:
            where = {"step": training.step, "task_id": training.task}
            self.told += [replace(event, **where) for event in training.waiting]
            training.waiting.clear()

    def _log(self, training: Training) -> None:
        """Log training that is over, as an experience, and one more for each other task that is new in it."""
        self._place(training)
        assert training.task is not None
        rows = self.tasks.of_training(training.contents)
        tasks = [training.task, *(task for task in rows if task != training.task and task not in self._met)]
        rows[training.task] = sum(rows.values()) - sum(rows[task] for task in tasks[1:])
        seconds = training.seconds
        for task in tasks:
            self._step += task != training.task
            where: dict[str, Any] = {"step": self._step, "task_id": task}
            self.told.append(events.TaskStarted(rows=rows[task], **where))
            self.told.append(events.TaskLearned(memory=training.memory, seconds=seconds, **where))
            self.rows.learned(self._step, task)
            self._met.add(task)
            seconds = 0.0
        if training.last and training.last[0] == training.batches:
            self.told += self.rows.tested(self._step, *training.last[1:])

    def _midway(self, now: Training, cells: Cells, seconds: float) -> None:
        """Log points of learning curves, and keep them: they are of the row too, if nothing is trained after them."""
        assert now.step is not None
        where: dict[str, Any] = {"step": now.step, "batch": now.batches, "seconds": seconds}
        where["epoch"] = 0 if now.piece else now.epochs
        for task, (right, total) in sorted(cells.items()):
            if task in self._met:
                kind = events.CurvePoint if task == now.task else events.EarlierTaskTested
                self.told.append(kind(task_id=task, **events.counts((right,), total), **where))
        batches, before, spent = now.last or (-1, {}, 0.0)
        if batches != now.batches:
            before, spent = {}, 0.0
        now.last = (now.batches, {**before, **cells}, spent + seconds)
