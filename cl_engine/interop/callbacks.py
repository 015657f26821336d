"""Callbacks inside Avalanche's loop that report progress, losses and answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_engine.interop.lazy_import import quietly
from cl_engine.training.fit import BREATH
from cl_engine.training.fit_job import Curve

with quietly():
    from avalanche.core import SupervisedPlugin


@dataclass(frozen=True)
class TrainingProgress:
    """Training is under way: the share that is done.

    >>> TrainingProgress(done=0.5).done
    0.5
    """

    done: float


@dataclass(frozen=True)
class EpochDone:
    """End of an epoch; ``loss`` is its mean.

    >>> EpochDone(epoch=0, loss=0.7, seconds=1.2).loss
    0.7
    """

    epoch: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class ProbePoint:
    """A point where the agenda wants the learner tested, after ``batch`` batches.

    >>> ProbePoint(batch=10, epoch=0).batch
    10
    """

    batch: int
    epoch: int


class TrainingCallbacks(SupervisedPlugin):  # type: ignore[misc]
    """Reports what happens in training by calling ``tell``; it changes nothing.

    >>> isinstance(TrainingCallbacks(print, Curve()), SupervisedPlugin)
    True
    """

    passing = True  # it holds nothing that would have to be saved

    def __init__(self, tell: Callable[[TrainingProgress | EpochDone | ProbePoint], None], curve: Curve) -> None:
        """Take what is called with every message, and when to be tested midway."""
        super().__init__()
        self._tell, self._curve = tell, curve
        self._batch = self._epoch = 0
        self._breath = time.perf_counter()

    def before_training_epoch(self, strategy: Any, **more: Any) -> None:
        """Start an epoch."""
        self._losses: list[tuple[Tensor, int]] = []
        self._began = time.perf_counter()
        self._per_epoch = len(strategy.dataloader) if hasattr(strategy.dataloader, "__len__") else 0
        if self._batch == 0 and self._curve.wants(0, max(1, self._per_epoch)):
            self._tell(ProbePoint(0, 0))

    def after_training_iteration(self, strategy: Any, **more: Any) -> None:
        """Count a batch and its loss."""
        self._losses.append(of_batch(strategy))
        self._batch += 1
        if time.perf_counter() - self._breath > BREATH:
            whole = max(1, self._per_epoch) * strategy.train_epochs
            self._tell(TrainingProgress(min(1.0, self._batch / whole)))
            self._breath = time.perf_counter()
        ends = len(self._losses) >= self._per_epoch
        if self._per_epoch and not ends and self._curve.wants(self._batch, self._per_epoch):
            self._tell(ProbePoint(self._batch, self._epoch))

    def after_training_epoch(self, strategy: Any, **more: Any) -> None:
        """End an epoch."""
        loss = of_pass(self._losses)
        self._epoch += 1
        self._tell(EpochDone(self._epoch - 1, loss, time.perf_counter() - self._began))
        if self._curve.wants(self._batch, max(1, self._per_epoch)):
            self._tell(ProbePoint(self._batch, self._epoch))


class AnswerCallbacks(SupervisedPlugin):  # type: ignore[misc]
    """Keeps the strategy's answers batch by batch, as all plug-ins leave them.

    >>> isinstance(AnswerCallbacks(), SupervisedPlugin)
    True
    """

    passing = True

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Tensor] = []

    def after_eval_iteration(self, strategy: Any, **more: Any) -> None:
        """Keep the answers to a batch."""
        self.answers.append(strategy.mb_output.detach())


def of_batch(strategy: Any) -> tuple[Tensor, int]:
    """Return the loss of the batch at hand, and its rows."""
    return strategy.loss.detach().reshape(-1).mean(), len(strategy.mbatch[0])


def of_pass(losses: list[tuple[Tensor, int]]) -> float:
    """Return the mean loss of the rows of some batches; 0 if there were none."""
    if not losses:
        return 0.0
    rows = torch.tensor([float(count) for _, count in losses])
    return float((torch.stack([loss for loss, _ in losses]).cpu() * rows).sum() / rows.sum())
