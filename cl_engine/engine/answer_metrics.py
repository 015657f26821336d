"""Metrics of answers, measured with the answers that R is measured by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor

from cl_engine.events import MetricScored
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.target import Target

Sums = dict[str, np.ndarray]  # of each metric [S, K]


class Noted:
    """The sums of metrics over a task's test rows, collected piece by piece while it is answered.

    >>> import torch
    >>> from cl_engine.answer_metrics.loss import Loss
    >>> from cl_engine.targets.classes import Classes
    >>> noted = Noted({"loss": Loss()}, Classes.of(classes=2))
    >>> noted.add(torch.zeros(1, 3, 2), torch.tensor([0, 1, 1]))
    >>> noted.sums()["loss"][:, 1]
    array([3.])
    """

    def __init__(self, metrics: Mapping[str, AnswerMetric], target: Target) -> None:
        self.metrics = {name: metric for name, metric in metrics.items() if not metric.fault(target)}
        self.target = target
        self._pieces: list[Sums] = []
        self._seeds: list[Sums] = []

    def add(self, outputs: Tensor, y: Tensor) -> None:
        """Take in the answers ``[S, N, O, …]`` of all seeds to some of the rows."""
        self._pieces.append(self._of(outputs, y))

    def add_seed(self, outputs: Tensor, y: Tensor) -> None:
        """Take in the answers ``[1, N, O, …]`` of the next seed to rows of its own."""
        self._seeds.append(self._of(outputs, y))

    def sums(self) -> Sums:
        """Return the sums over all rows that were taken in."""
        parts = self._pieces + ([_beside(self._seeds)] if self._seeds else [])
        return {name: np.sum([part[name] for part in parts], axis=0) for name in self.metrics} if parts else {}

    def _of(self, outputs: Tensor, y: Tensor) -> Sums:
        return {name: metric.sums_by_seed(outputs, y, self.target) for name, metric in self.metrics.items()}


def scored(
    metrics: Mapping[str, AnswerMetric], found: Sums, where: dict[str, int], last: bool, again: bool
) -> Iterator[MetricScored]:
    """Yield what metrics come to on a task, given their sums; with the sums where they are to be kept.

    Args:
        metrics: by name.
        found: the sums of each.
        where: step, evaluation and task.
        last: whether it is a test at the end of the stream.
        again: whether the task's score is taken over as unchanged, and only sums are wanted.
    """
    for name, sums in found.items():
        metric = metrics[name]
        kept = metric.keep == "end" and last if again else metric.keep == "all" or (metric.keep == "end" and last)
        if kept or not again:
            value = () if again else tuple(np.asarray(metric.value(sums), dtype=float).tolist())
            yield MetricScored(**where, metric=name, value=value, sums=sums if kept else None)


def _beside(seeds: list[Sums]) -> Sums:
    return {name: np.concatenate([own[name] for own in seeds]) for name in seeds[0]}
