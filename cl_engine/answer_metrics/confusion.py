"""Which classes are taken for which."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cl_engine.metrics.sums import ratio
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.target import Target
from cl_engine.targets.class_map import UNLABELLED, ClassMap
from cl_engine.targets.classes import Classes


class Confusion(AnswerMetric):
    """Confusion matrix: how many test rows (or places) of each class were answered by which; its value is the mean recall.

    The sums are the matrix, a row a class as labelled, a column a class as answered. The value, also called balanced accuracy
    (Brodersen et al. 2010), is the mean over the classes that occur of the share of their rows that are right.

    >>> metric, target = Confusion(), Classes.of(classes=2)
    >>> sums = metric.sums(torch.eye(2)[[0, 0, 1]], torch.tensor([0, 1, 1]), target)
    >>> sums.tolist(), metric.value(sums.numpy())
    ([1.0, 0.0, 1.0, 1.0], np.float64(0.75))
    """

    title = "balanced accuracy"
    meaning = "mean over the classes that occur of the share of their rows answered right (Brodersen et al. 2010)"
    picture = "matrix"

    def fault(self, target: Target) -> str:
        return "" if isinstance(target, Classes | ClassMap) else "there are no classes that could be confused"

    def sums(self, outputs: Tensor, y: Tensor, target: Target) -> Tensor:
        classes = target.outputs
        answers, asked = target.answers_at(outputs, y).flatten(), y.flatten().long()
        known = (asked != UNLABELLED) if isinstance(target, ClassMap) else torch.ones_like(asked, dtype=torch.bool)
        place = torch.where(known, asked, 0) * classes + answers
        return torch.zeros(classes**2, dtype=torch.float64, device=y.device).scatter_add(0, place, known.double())

    def value(self, sums: np.ndarray) -> np.ndarray:
        side = round(sums.shape[-1] ** 0.5)
        table = sums.reshape(*sums.shape[:-1], side, side)
        recall = ratio(np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-1))
        occurs = np.isfinite(recall)
        return ratio(np.where(occurs, recall, 0).sum(axis=-1), occurs.sum(axis=-1))
