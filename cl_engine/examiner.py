"""Tests of a strategy on tasks: what must be tested, together where it can be, and what need not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine import rng
from cl_engine.errors import RunFailed
from cl_engine.ledger import Measured
from cl_engine.strategy import Strategy
from cl_engine.stream import Data, Stream

TEST_CACHE_BYTES = 512 * 2**20
ROWS_TOGETHER = 2048


@dataclass(frozen=True, slots=True)
class Answered:
    """A task and its test; ``reused``: that of before, since the answers cannot have changed."""

    task_id: int
    measured: Measured
    reused: bool = False


class Examiner:
    """Tests the strategy of a run, and its untrained twin.

    Where a `Strategy.fingerprint` is that of the last test, the last score holds. A share of these is tested all the same
    (``spot_checks``), to find out strategies whose fingerprint leaves something out.
    """

    def __init__(self, stream: Stream, strategy: Strategy, spot_checks: float = 0.0) -> None:
        self.stream, self.strategy, self.spot_checks = stream, strategy, spot_checks
        self._untrained: Strategy | None = None
        self._tests: OrderedDict[int, Data] = OrderedDict()
        self._cached = 0
        self._here: set[int] = set()  # tested in this process: elsewhere the same function may round otherwise

    def test(self, task_id: int) -> Data:
        """Return a task's test rows, from a cache of bounded size."""
        if task_id in self._tests:
            self._tests.move_to_end(task_id)
            return self._tests[task_id]
        self._tests[task_id] = test = self.stream.test(task_id)
        self._cached += _bytes(test)
        while self._cached > TEST_CACHE_BYTES and len(self._tests) > 1:
            self._cached -= _bytes(self._tests.popitem(last=False)[1])
        return test

    def told(self, task_id: int) -> int | None:
        """Return what a strategy is told of the task it is tested on."""
        return task_id if self.stream.setting == "task" else None

    def untrained(self, task_ids: Iterable[int]) -> Iterator[Answered]:
        """Test the twin that has learned nothing."""
        self._untrained = self._untrained or self.strategy.untrained()
        for task in task_ids:
            yield Answered(task, self._measured(self._untrained, task, None))

    def trained(self, task_ids: Sequence[int], step: int, known: dict[int, Measured]) -> Iterator[Answered]:
        """Test the strategy after ``step``; ``known`` holds the last tests of tasks with a fingerprint, and is kept so.

        Raises:
            RunFailed: if a spot check finds other answers than before.
        """
        if self.stream.setting != "task" and self.strategy.rowwise and self.strategy.fingerprint(None) is None:
            yield from self._together(task_ids)
            return
        checked = rng.arrays(0, "spot checks", step).random(len(task_ids)) < self.spot_checks
        for task, check in zip(task_ids, checked, strict=True):
            fingerprint = self.strategy.fingerprint(self.told(task))
            last = known.get(task)
            if last is not None and fingerprint is not None and last.fingerprint == fingerprint:
                if check and task in self._here:
                    self._check(task, step, last)
                yield Answered(task, last, reused=True)
                continue
            measured = self._measured(self.strategy, task, fingerprint)
            if fingerprint is not None:
                known[task] = measured
                self._here.add(task)
            yield Answered(task, measured)

    def _together(self, task_ids: Sequence[int]) -> Iterator[Answered]:
        """Test one function on the rows of several tasks in one pass, where each has few."""
        waiting: list[tuple[int, Data]] = []
        rows = 0
        for place, task in enumerate(task_ids, start=1):
            waiting.append((task, self.test(task)))
            rows += len(waiting[-1][1])
            if rows < ROWS_TOGETHER and place < len(task_ids):
                continue
            x = torch.cat([test.x for _, test in waiting]) if len(waiting) > 1 else waiting[0][1].x
            parts = self.strategy.predict(x, None).split([len(test) for _, test in waiting], dim=1)
            for (own, test), logits in zip(waiting, parts, strict=True):
                yield Answered(own, Measured(None, n_correct(logits, test), len(test)))
            waiting, rows = [], 0

    def _measured(self, learner: Strategy, task: int, fingerprint: int | None) -> Measured:
        test = self.test(task)
        return Measured(fingerprint, n_correct(learner.predict(test.x, self.told(task)), test), len(test))

    def _check(self, task: int, step: int, last: Measured) -> None:
        now = self._measured(self.strategy, task, last.fingerprint)
        if now.n_correct == last.n_correct:
            return
        pairs = zip(self.strategy.seeds, last.n_correct, now.n_correct, strict=True)
        seed, before, after = next(pair for pair in pairs if pair[1] != pair[2])
        raise RunFailed(
            f"the strategy '{self.strategy.name()}' gives task {task} the fingerprint of before, but at step {step} answers "
            f"{after} of {now.n_total} test rows correctly (seed {seed}), not {before}: its `fingerprint` leaves out "
            "something that `predict` depends on"
        )


@torch.inference_mode()
def n_correct(logits: Tensor, test: Data) -> tuple[int, ...]:
    """Return how many rows each seed answers correctly, for logits ``[S, N, C]``."""
    return tuple((logits.argmax(dim=-1) == test.y).sum(dim=-1).tolist())


def _bytes(data: Data) -> int:
    return data.x.numel() * data.x.element_size() + data.y.numel() * data.y.element_size()
