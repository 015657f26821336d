"""The loss on test rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cl_engine.metrics.sums import ratio
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.target import Target


class Loss(AnswerMetric):
    """Test loss: the mean of the losses of the test rows, by each task's target, without smoothed labels.

    Of classes it is the cross-entropy in nats. Outputs are read as logits, whatever a strategy makes them of (distances, say).

    >>> from cl_engine.targets.classes import Classes
    >>> metric, target = Loss(), Classes.of(classes=4)
    >>> metric.value(metric.sums(torch.zeros(3, 4), torch.tensor([0, 1, 2]), target).numpy()).round(3)
    np.float64(1.386)
    """

    title = "test loss"
    meaning = (
        "mean loss of the test rows by each task's target, without smoothed labels (cross-entropy in nats, of classes)"
    )
    higher = False

    def sums(self, outputs: Tensor, y: Tensor, target: Target) -> Tensor:
        losses = target.smoothed(0.0).losses(outputs, y).double()
        return torch.stack([losses.sum(), torch.ones_like(losses).sum()])

    def value(self, sums: np.ndarray) -> np.ndarray:
        return ratio(sums[..., 0], sums[..., 1])
