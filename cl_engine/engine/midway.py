"""Tests in the middle of learning, with the weights as they are at the moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
from torch import Tensor

from cl_engine.core.tree import Tree
from cl_engine.engine.evaluator import Evaluator
from cl_engine.events import CurvePoint, EarlierTaskTested
from cl_engine.metrics.running import Ledger
from cl_engine.strategy import Strategy
from cl_engine.training.fit_job import TrainingProbe


class Midway:
    """Tests a strategy wherever a fit yields a probe: on the task that is being learned, and on the first ones met.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> experiment = Experiment.of(small.scenario(), "finetune")
    >>> stream = experiment.stream()
    >>> strategy = experiment.build_strategy(stream)
    >>> midway = Midway(strategy, Evaluator(stream, strategy))
    """

    def __init__(self, strategy: Strategy, evaluator: Evaluator) -> None:
        self.strategy, self.evaluator = strategy, evaluator

    def tested(self, event: TrainingProbe, task: int, ledger: Ledger) -> Iterator[CurvePoint | EarlierTaskTested]:
        """Test the task that is being learned, then those of the first met that the strategy can answer midway."""
        yield self._curve_point(event, task)
        yield from self._earlier(event, task, ledger)

    def _curve_point(self, event: TrainingProbe, task: int) -> CurvePoint:
        began = time.perf_counter()
        score, sums = self._scored(task, self.evaluator.sums(task, event.predict))
        return CurvePoint(
            step=event.step,
            task_id=task,
            batch=event.batch,
            epoch=event.epoch,
            score=score,
            sums=sums,
            seconds=time.perf_counter() - began,
        )

    def _scored(self, task: int, sums: np.ndarray) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
        """Return score and sums of a task by seed, as events tell them."""
        return tuple(self.strategy.target_of(task).score(sums).tolist()), tuple(map(tuple, sums.tolist()))

    def _earlier(self, event: TrainingProbe, task: int, ledger: Ledger) -> Iterator[EarlierTaskTested]:
        """Test the first tasks met with the weights as they are now, where the strategy can say what they answer."""
        wanted = range(min(self.strategy.curve.tasks, len(ledger.first_learned)))
        met = [other for other in wanted if other != task and ledger.first_learned[other] >= 0]
        params = event.params() if met else {}
        for other in met:
            began = time.perf_counter()
            told = self.evaluator.told(other)
            if self.strategy.predict_midway(params, self.evaluator.test(other).x[:1], told) is None:
                return
            predict = partial(self._answered, params, told)
            score, sums = self._scored(other, self.evaluator.sums(other, predict))
            yield EarlierTaskTested(
                step=event.step,
                task_id=other,
                batch=event.batch,
                epoch=event.epoch,
                score=score,
                sums=sums,
                seconds=time.perf_counter() - began,
            )

    def _answered(self, params: Tree, told: int | None, x: Tensor) -> Tensor:
        found = self.strategy.predict_midway(params, x, told)
        assert found is not None  # it was asked for one row before
        return found
