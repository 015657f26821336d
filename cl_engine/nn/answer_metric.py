"""The contract of metrics of answers: functions of sums over test rows, beside the measure that R holds."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.metrics.plugin import PluginMetric
from cl_engine.nn.target import Target
from cl_engine.options import option


class AnswerMetric(PluginMetric):
    """A function of outputs and labels, wherever tasks are tested, as a fixed number of sums that add up over rows.

    The engine asks for the sums with the very answers that R is measured by, and for all seeds at once (`torch.vmap`), so that
    nothing is answered twice and a GPU is waited for once a task. The value of each test is logged; the sums, from which a
    matrix or a diagram can be drawn, as ``keep`` says.

    >>> import torch
    >>> class Sure(AnswerMetric):
    ...     title, meaning = "confidence", "mean of the highest chance"
    ...     def sums(self, outputs, y, target):
    ...         best = target.chances(outputs).amax(dim=1).double()
    ...         return torch.stack([best.sum(), torch.ones_like(best).sum()])
    ...     def value(self, sums):
    ...         return sums[..., 0] / sums[..., 1]
    >>> from cl_engine.targets.classes import Classes
    >>> metric, outputs = Sure(), torch.zeros(2, 5, 4)
    >>> metric.value(metric.sums_by_seed(outputs, torch.zeros(5).long(), Classes.of(classes=4)))
    array([0.25, 0.25])

    Attributes:
        picture: what the report draws of the sums at the end: ``matrix`` (counts of label by answer, row after row), ``bins``
            (rows, right answers and summed confidences by bin of confidence), or nothing (empty).
    """

    picture: ClassVar[Literal["", "matrix", "bins"]] = ""
    keep: Literal["end", "all", "never"] = option(
        "end", "tests whose sums are logged, not only the value: those at the end of the stream, all, or none"
    )

    def fault(self, target: Target) -> str:
        """Return why it cannot be told of tasks that ask for a target, as the rest of a sentence; empty: it can.

        Tasks that it cannot be told of have no value, and a stream that has no others refuses it.
        """
        return ""

    @abstractmethod
    def sums(self, outputs: Tensor, y: Tensor, target: Target) -> Tensor:
        """Return the sums over the rows ``[K]``, float64, for outputs ``[N, O, …]`` of one seed and labels ``[N, …]``.

        It runs under `torch.vmap`: no shape may depend on the values of tensors, and none may be asked for (``.item()``, ``if``).
        """

    @abstractmethod
    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the metric ``[…]`` of sums ``[…, K]``; NaN where there was nothing to be measured."""

    @torch.inference_mode()
    def sums_by_seed(self, outputs: Tensor, y: Tensor, target: Target) -> np.ndarray:
        """Return the sums over rows of every seed ``[S, K]``, for outputs ``[S, N, O, …]`` and labels ``[N, …]``."""
        found: np.ndarray = torch.vmap(lambda own: self.sums(own, y, target))(outputs).cpu().numpy()
        return found
