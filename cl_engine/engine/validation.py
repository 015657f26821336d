"""Scores on validation rows, by the agenda of the tests: what settings are chosen by, so that test rows take no part in it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cl_engine.data.stream import Data, Stream
from cl_engine.engine.evaluator import Evaluator
from cl_engine.events import ValidationScored
from cl_engine.metrics.running import Ledger
from cl_engine.strategy import Strategy

LOGGED = ("acc", "bwt", "forgetting")


class Validation:
    """Scores tasks on their validation rows wherever they are tested; says nothing of tasks that have none.

    Where a `Strategy.fingerprint` is that of the last time, the last score holds, as in tests. Spot checks are left to those.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> experiment = Experiment.of(small.scenario(), "finetune", **{"stream.validation": 0.25})
    >>> stream = experiment.stream()
    >>> strategy = experiment.build_strategy(stream)
    >>> strategy.state = strategy.start()
    >>> validation = Validation(stream, strategy)
    >>> validation.ledger.learned(0, 0)
    >>> [event.score.shape for event in validation.scored([0], step=0, row=0, stopped=set())]
    [(1, 1)]
    """

    def __init__(self, stream: Stream, strategy: Strategy) -> None:
        self.strategy, self.stream = strategy, stream
        self.evaluator = Evaluator(stream, strategy, spot_checks=0.0, rows=self._rows)
        self.ledger = Ledger(len(strategy.seeds))
        self.counts: dict[int, int] = {}  # validation rows of each task that was looked at

    @property
    def any(self) -> bool:
        """Whether a task scored so far has validation rows."""
        return any(self.counts.values())

    def resumed(self, state: Mapping[str, Any] | None, tested: Ledger) -> None:
        """Go on from what a checkpoint holds; one of before there were these scores tells only what was learned when."""
        if state is not None:
            self.ledger = Ledger.restored(dict(state))
            return
        for task, step in sorted(enumerate(tested.first_learned.tolist()), key=lambda pair: pair[1]):
            if step >= 0:
                self.ledger.learned(step, task)

    def scored(
        self, task_ids: Sequence[int], step: int, row: int, stopped: Collection[int]
    ) -> Iterator[ValidationScored]:
        """Score those of the tasks that have validation rows, after ``step``, as row ``row`` of R; nothing where none has."""
        began = time.perf_counter()
        tasks = [task for task in task_ids if self._count(task)]
        if not tasks:
            return
        self.ledger.row(step)
        self.ledger.stopped = set(stopped)
        answered = list(self.evaluator.trained(tasks, step, self.ledger.known))
        for each in answered:
            self.ledger.put(each.task_ids, each.score)
        measure_of = None if self.stream.only_accuracy else lambda task: self.strategy.target_of(task).measure
        scores = self.ledger.scores(measure_of)
        sums = np.full((len(tasks), len(self.strategy.seeds), max(each.sums.shape[2] for each in answered)), np.nan)
        place = 0
        for each in answered:
            sums[place : place + len(each.task_ids), :, : each.sums.shape[2]] = each.sums
            place += len(each.task_ids)
        yield ValidationScored(
            step=step,
            evaluation=row,
            task_ids=np.concatenate([each.task_ids for each in answered]),
            score=np.concatenate([each.score for each in answered]),
            sums=sums,
            seconds=time.perf_counter() - began,
            **{name: tuple(scores[name].tolist()) for name in LOGGED},
        )

    def _rows(self, task_id: int) -> Data:
        rows = self.stream.validation_rows(task_id)
        self.counts[task_id] = len(rows)
        return rows

    def _count(self, task_id: int) -> int:
        """Return how many validation rows a task has, asking the stream once."""
        if task_id not in self.counts:
            self._rows(task_id)
        return self.counts[task_id]
