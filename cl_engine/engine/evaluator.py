"""Tests of a strategy on tasks: which must be tested, which can be tested together, and which need not be."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.gpu import is_gpu
from cl_engine.data.own_streams import fault_of_test, is_own
from cl_engine.data.stream import Data, Stream
from cl_engine.engine.answer_metrics import Noted, Sums
from cl_engine.errors import RunFailed, UsageError
from cl_engine.metrics.running import ScoreCache
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.strategy import Strategy

LOG = logging.getLogger("cl_engine")

TEST_CACHE_BYTES = 512 * 2**20
ROWS_TOGETHER = 2048
ROWS_OF_PLACES = 256
SPOT_CHECKS = 0.01  # share of the scores held to be unchanged


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of testing tasks ``[n]``: scores ``[n, S]``, and the sums ``[n, S, K]`` that they are functions of.

    ``reused``: as in the tests before, since the answers cannot have changed. ``metrics``: of one task, the sums of the agenda's
    metrics by name.

    >>> TestResult(np.array([0]), np.array([[0.9, 0.88]]), np.array([[[45, 50], [44, 50]]])).score
    array([[0.9 , 0.88]])
    """

    task_ids: np.ndarray
    score: np.ndarray
    sums: np.ndarray
    reused: bool = False
    metrics: Sums = field(default_factory=dict)


class Evaluator:
    """Tests the strategy of a run, and its untrained twin.

    Where a `Strategy.fingerprint` is that of the last test, the last score holds. A share of these is tested all the same
    (``spot_checks``), to find out strategies whose fingerprint leaves something out; where no share is given, `SPOT_CHECKS`
    of them, and no more than are tested anyway, so that tests cost at most twice what they must however many tasks there are.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> experiment = Experiment.of(small.scenario(), "finetune")
    >>> stream = experiment.stream()
    >>> evaluator = Evaluator(stream, experiment.build_strategy(stream))
    >>> [result.sums[0, 0, 1] for result in evaluator.untrained([0])]
    [np.float64(50.0)]
    """

    def __init__(
        self,
        stream: Stream,
        strategy: Strategy,
        spot_checks: float | None = None,
        rows: Callable[[int], Data] | None = None,
    ) -> None:
        """Test a strategy on a stream's test rows, or on the ``rows`` of a task that a function returns."""
        self.stream, self.strategy, self.spot_checks = stream, strategy, spot_checks
        self.rows = rows or stream.test
        self._own, self._learned = rows is None and is_own(stream), False
        self.metrics: Mapping[str, AnswerMetric] = {}  # measured with the answers of `untrained` and `trained`
        self.undefined: dict[int, int] = {}  # places of seeds that answered with NaN, and a task of which
        if not stream.asks_classes:
            strategy.targets = stream.target
        self._untrained: Strategy | None = None
        self._tests: OrderedDict[int, Data] = OrderedDict()
        self._cached = 0
        self._latest: tuple[int, Data] | None = None  # a new task is tested twice in a row: untrained, then learned
        self._asked: set[int] = set()
        self._here: set[int] = set()  # tested in this process: elsewhere the same function may round otherwise

    def test(self, task_id: int) -> Data:
        """Return a task's test rows in a drawn order; those asked for again are kept in a cache of bounded size.

        Streams give them class by class, which is more than a strategy that answers several rows together may know.
        """
        if task_id in self._tests:
            self._tests.move_to_end(task_id)
            return self._tests[task_id]
        if self._latest is None or self._latest[0] != task_id:
            rows = self.rows(task_id)
            if self._own and (fault := fault_of_test(self.stream, task_id, rows)):
                raise RunFailed(fault) if self._learned else UsageError(fault)
            self._latest = task_id, rows.shuffled(self.stream.seed)
        test = self._latest[1]
        if task_id in self._asked:
            self._tests[task_id] = test
            self._cached += _bytes(test)
            while self._cached > TEST_CACHE_BYTES and len(self._tests) > 1:
                self._cached -= _bytes(self._tests.popitem(last=False)[1])
        self._asked.add(task_id)
        return test

    def told(self, task_id: int) -> int | None:
        """Return what a strategy is told of the task it is tested on."""
        return task_id if self.stream.setting == "task" else None

    def untrained(self, task_ids: Iterable[int]) -> Iterator[TestResult]:
        """Test the twin that has learned nothing."""
        self._untrained = self._untrained or self.strategy.untrained()
        for task in task_ids:
            yield self._measured(self._untrained, task)

    def trained(self, task_ids: Sequence[int], step: int, known: ScoreCache) -> Iterator[TestResult]:
        """Test the strategy after ``step``; ``known`` holds the last tests of tasks with a fingerprint, and is kept so.

        Raises:
            RunFailed: if a spot check finds other answers than before.
        """
        self._learned = True
        together = self.stream.setting != "task" and self.strategy.rowwise and not self.stream.per_seed
        if together and self.strategy.fingerprint(None) is None:
            yield from self._together(task_ids)
            return
        tasks = np.fromiter(task_ids, np.int64, len(task_ids))
        told = task_ids if self.stream.setting == "task" else [None] * len(task_ids)
        fingerprints = list(map(self.strategy.fingerprint, told))
        holds = known.hold(tasks, fingerprints)
        if self._tests:
            self._forget(set(tasks[holds].tolist()))
        self._spot_checks(tasks, holds, step, known)
        for start, end in _stretches(holds):
            if holds[start]:
                yield TestResult(tasks[start:end], *known.results(tasks[start:end]), reused=True)
                continue
            for task, fingerprint in zip(task_ids[start:end], fingerprints[start:end], strict=True):
                answered = self._measured(self.strategy, task)
                if fingerprint is not None:
                    known.note(task, fingerprint, answered.score[0], answered.sums[0])
                    self._here.add(task)
                yield answered

    def _together(self, task_ids: Sequence[int]) -> Iterator[TestResult]:
        """Test one function on the rows of several tasks in one pass, where each has few."""
        waiting: list[tuple[int, Data]] = []
        rows = 0
        for place, task in enumerate(task_ids, start=1):
            waiting.append((task, self.test(task)))
            rows += len(waiting[-1][1])
            if rows < ROWS_TOGETHER and place < len(task_ids):
                continue
            x = torch.cat([test.x for _, test in waiting]) if len(waiting) > 1 else waiting[0][1].x
            parts = self._answered(self.strategy, x, None).split([len(test) for _, test in waiting], dim=1)
            for (task_id, test), outputs in zip(waiting, parts, strict=True):
                noted = self._noting(task_id)
                noted.add(self._looked_at(outputs, task_id), test.y)
                yield self._result(task_id, self.strategy.target_of(task_id).sums_by_seed(outputs, test.y), noted)
            waiting, rows = [], 0

    def metric_sums(self, task: int) -> Sums:
        """Return the sums of the metrics on a task whose score need not be measured again."""
        return self._measured(self.strategy, task).metrics

    def _noting(self, task: int) -> Noted:
        return Noted(self.metrics, self.stream.target(task))

    def _measured(self, learner: Strategy, task: int) -> TestResult:
        told, noted = self.told(task), self._noting(task)
        if not self.stream.per_seed:
            sums = self.sums(task, lambda x: self._looked_at(self._answered(learner, x, told), task), noted)
            return self._result(task, sums, noted)
        each = [learner.of_seed(place) for place in range(len(learner.seeds))]

        def answer(place: int, x: Tensor) -> Tensor:
            return self._looked_at(self._answered(each[place], x, told), task, place)

        return self._result(task, self._sums_of_seeds(task, answer, noted), noted)

    def _looked_at(self, outputs: Tensor, task: int, place: int = 0) -> Tensor:
        """Return outputs, and note which seeds, from the one at this place on, have some that are NaN.

        −∞ is an answer: that of a class which is left out.
        """
        if not math.isfinite(float(outputs.sum())):  # one number a test: the answers are waited for anyway
            own = outputs[:, :, : self.strategy.target_of(task).outputs]
            for found in torch.nonzero(own.isnan().flatten(1).any(dim=1)).flatten().tolist():
                self.undefined.setdefault(place + found, task)
        return outputs

    @staticmethod
    def _answered(learner: Strategy, x: Tensor, told: int | None) -> Tensor:
        """Return what a strategy answers, or refuse it where that are no outputs of each seed for each row."""
        found, seeds = learner.predict(x, told), len(learner.seeds)
        if not isinstance(found, Tensor) or found.ndim < 3 or found.shape[:2] != (seeds, len(x)):
            shape = (
                f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            )
            raise UsageError(
                f"the strategy '{learner.name()}': `predict` returned {shape} for {len(x)} rows and {seeds} seeds; outputs "
                f"[S, N, O] are allowed, here [{seeds}, {len(x)}, {learner.net.outputs}], as self.net.all gives them"
            )
        return found

    def _result(self, task: int, sums: np.ndarray, noted: Noted) -> TestResult:
        score = self.strategy.target_of(task).score(sums)[None]
        return TestResult(np.array([task]), score, sums[None], metrics=noted.sums())

    def sums(self, task: int, predict: Callable[[Tensor], Tensor], noted: Noted | None = None) -> np.ndarray:
        """Return the sums ``[S, K]`` over a task's test rows, for the outputs that ``predict`` gives for inputs.

        Answers at places are many numbers a row, and are asked for and summed up some rows at a time.
        ``noted`` takes them in too.
        """
        test, target = self.test(task), self.strategy.target_of(task)
        if test.of_seeds is not None:  # each seed's answers to the rows of all seeds, of which it has one's own
            return self._sums_of_seeds(task, lambda place, x: predict(x)[place : place + 1], noted)
        pieces: Iterable[tuple[Tensor, Tensor]] = [(test.x, test.y)]  # the tensor itself, by which answers may be kept
        if target.places and self.stream.setting == "task":
            pieces = zip(test.x.split(ROWS_OF_PLACES), test.y.split(ROWS_OF_PLACES), strict=True)
        found = []
        for x, y in pieces:
            outputs = predict(x)
            found.append(target.sums_by_seed(outputs, y))
            if noted is not None:
                noted.add(outputs, y)
        total: np.ndarray = np.sum(found, axis=0)
        return total

    def _sums_of_seeds(
        self, task: int, predict: Callable[[int, Tensor], Tensor], noted: Noted | None = None
    ) -> np.ndarray:
        """Return the sums ``[S, K]`` over test rows that each seed has of its own, given how the one at a place answers."""
        target, each = self.strategy.target_of(task), map(self.test(task).of, range(len(self.strategy.seeds)))
        found = []
        for place, (x, y) in enumerate(each):
            outputs = predict(place, x)
            found.append(target.sums_by_seed(outputs, y))
            if noted is not None:
                noted.add_seed(outputs, y)
        return np.concatenate(found)

    def _forget(self, tasks: set[int]) -> None:
        """Drop the rows of tasks that are not tested as their scores hold, which they mostly do for good."""
        for task in [task for task in self._tests if task in tasks]:
            self._cached -= _bytes(self._tests.pop(task))

    def _spot_checks(self, tasks: np.ndarray, holds: np.ndarray, step: int, known: ScoreCache) -> None:
        """Test some of the tasks whose last test holds once more."""
        share = SPOT_CHECKS if self.spot_checks is None else self.spot_checks
        draws = rng.arrays(0, "spot checks", step).random(len(tasks))
        drawn = np.flatnonzero(holds & (draws < share))
        drawn = drawn[[task in self._here for task in tasks[drawn].tolist()]]
        if self.spot_checks is None:
            drawn = np.sort(drawn[np.argsort(draws[drawn])][: max(1, np.count_nonzero(~holds))])
        chosen: list[int] = tasks[drawn].tolist()
        for task in chosen:
            self._check(task, step, *(last[0] for last in known.results(np.array([task]))))

    def _check(self, task: int, step: int, last: np.ndarray, sums: np.ndarray) -> None:
        answered = self._measured(self.strategy, task)
        now = answered.sums[0]
        differ = np.flatnonzero((now != sums[:, : now.shape[1]]).any(axis=1))
        if not len(differ):
            return
        if is_gpu(self.stream.device) and (self._measured(self.strategy, task).sums != answered.sums).any():
            LOG.warning("task %d is answered otherwise each time it is asked: this GPU adds in any order", task)
            return
        place, measure = int(differ[0]), self.strategy.target_of(task).measure
        told = f"reaches {measure.name} {answered.score[0, place]:.6g}", f"{last[place]:.6g}"
        if measure.name == "accuracy":
            (right, rows), before = now[place], sums[place, 0]
            told = f"answers {right:.0f} of {rows:.0f} test rows correctly", f"{before:.0f}"
        raise RunFailed(
            f"the strategy '{self.strategy.name()}' gives task {task} the fingerprint of before, but at step {step} {told[0]} "
            f"(seed {self.strategy.seeds[place]}), not {told[1]}: its `fingerprint` leaves out something that `predict` "
            "depends on"
        )


def _stretches(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield where the longest stretches of equal values begin and end."""
    if len(values):
        yield from pairwise([0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)])


def _bytes(data: Data) -> int:
    return data.x.numel() * data.x.element_size() + data.y.numel() * data.y.element_size()
