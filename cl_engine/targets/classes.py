"""One class a row."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.metrics.sums import ratio
from cl_engine.nn.target import Target, of_rows
from cl_engine.options import option


class Classes(Target):
    """One class a row, learned by cross-entropy and measured by accuracy.

    >>> target, y = Classes.of(classes=3), torch.tensor([0, 2])
    >>> target.score(target.sums(torch.eye(3)[[0, 1]], y).numpy())
    np.float64(0.5)
    """

    smooths = True
    classes: int = option(..., "number of classes", ge=1)

    measure = Measure("accuracy")
    sum_names = ("right", "all")

    @property
    def outputs(self) -> int:
        return self.classes

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        own = of_rows(outputs, self.classes)
        return F.cross_entropy(own, y, reduction="none", label_smoothing=self.smoothing)

    def mean_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(of_rows(outputs, self.classes), y, label_smoothing=self.smoothing)

    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        right = (self.answers(outputs) == y).sum()
        return torch.stack([right, torch.full_like(right, len(y))]).double()

    @torch.inference_mode()
    def sums_by_seed(self, outputs: Tensor, y: Tensor) -> np.ndarray:
        own = outputs if outputs.shape[2] == self.classes else outputs[:, :, : self.classes]
        right = ((own.flatten(3).mean(dim=3) if own.ndim > 3 else own).argmax(dim=2) == y).sum(dim=1)
        return np.stack([right.cpu().numpy(), np.full(len(right), len(y))], axis=1).astype(float)

    def sums_of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        own = outputs[:, :, : self.classes]
        right = ((own.flatten(3).mean(dim=3) if own.ndim > 3 else own).argmax(dim=2) == y).sum(dim=1)
        return torch.stack([right, torch.full_like(right, y.shape[1])], dim=1).double()

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": ratio(sums[..., 0], sums[..., 1])}

    def vectors(self, y: Tensor) -> Tensor:
        return F.one_hot(y, self.classes).float()

    def guess(self, y: Tensor) -> Tensor:
        return torch.bincount(y, minlength=self.classes).float()

    def answers(self, outputs: Tensor) -> Tensor:
        return of_rows(outputs, self.classes).argmax(dim=1)

    def chances(self, outputs: Tensor) -> Tensor:
        return of_rows(outputs, self.classes).softmax(dim=1)

    def fault(self, y: np.ndarray) -> str:
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            return f"they are {y.dtype} of shape {y.shape}; the number of a class a row is allowed"
        odd = y[(y < 0) | (y >= self.classes)]
        return f"one of them is {odd[0]}; allowed are 0 to {self.classes - 1}" if len(odd) else ""


@cache
def class_of(classes: int) -> Classes:
    """Return what asks for one of so many classes a row, always the same: it is asked for several times a task."""
    return Classes.of(classes=classes)


def other_than_classes(targets: Iterable[Target]) -> Target | None:
    """Return the first target that is not this one; None: all ask for classes."""
    return next((target for target in targets if target.name() != "classes"), None)
