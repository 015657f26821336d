"""How far confidence is from accuracy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cl_engine.metrics.sums import ratio
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.targets.classes import Classes


class Ece(AnswerMetric):
    """ECE: the expected calibration error (Naeini et al. 2015; with the bins of Guo et al. 2017, eq. 5).

    Rows fall into ``bins`` of equal width by their confidence, the highest chance that the softmax of the outputs gives;
    bin m holds those in ((m − 1)/M, m/M]. ECE = Σ_m |B_m|/n · |acc(B_m) − conf(B_m)|: 0 where answers that are said to be right
    nine times of ten are.

    >>> metric, target = Ece.of(bins=10), Classes.of(classes=2)
    >>> outputs = torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log()  # two answers with confidence 0.9, one of them right
    >>> metric.value(metric.sums(outputs, torch.tensor([0, 1]), target).numpy()).round(3)
    np.float64(0.4)
    """

    title = "ECE"
    meaning = (
        "expected calibration error: confidence (the highest softmax chance) less accuracy, without sign, mean over bins of "
        "confidence weighted by their rows (Naeini et al. 2015, Guo et al. 2017)"
    )
    higher = False
    picture = "bins"
    bins: int = option(15, "bins of confidence, of equal width", ge=1, le=1000)

    def fault(self, target: Target) -> str:
        return "" if isinstance(target, Classes) else "there is no confidence but of one class a row"

    def sums(self, outputs: Tensor, y: Tensor, target: Target) -> Tensor:
        chances = target.chances(outputs)
        assert chances is not None  # `fault` lets classes through alone
        confidence, answer = chances.double().max(dim=1)
        place = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        within = (place.unsqueeze(1) == torch.arange(self.bins, device=y.device)).double()
        told = torch.stack([torch.ones_like(confidence), (answer == y).double(), confidence])
        return (told @ within).flatten()

    def value(self, sums: np.ndarray) -> np.ndarray:
        rows, right, confidence = np.split(sums, 3, axis=-1)
        return ratio(np.abs(right - confidence).sum(axis=-1), rows.sum(axis=-1))
