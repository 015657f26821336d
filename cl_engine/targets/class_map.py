"""A class at each place: semantic segmentation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.metrics.sums import overlap_scores
from cl_engine.nn.target import Target, at_places, pooled
from cl_engine.options import option

UNLABELLED = 255  # as in the masks of Pascal VOC and Cityscapes


class ClassMap(Target):
    """A class at each place ``[N, H, W]``, learned by cross-entropy and measured by the mean intersection over union.

    The mean is over the classes that occur among the labels or the answers (Everingham et al. 2010); places labelled 255 count
    for nothing. Also given: the share of places that are right.

    >>> target, y = ClassMap.of(classes=2), torch.tensor([[[0, 1], [1, 1]]])
    >>> outputs = torch.stack([1.0 - y, y * 1.0], dim=1)
    >>> target.scores(target.sums(outputs, y).numpy())
    {'mean_iou': np.float64(1.0), 'pixel_accuracy': np.float64(1.0)}
    """

    places = measured_at_places = smooths = True
    classes: int = option(..., "number of classes", ge=2, le=UNLABELLED)

    measure = Measure("mean_iou")

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def sum_names(self) -> tuple[str, ...]:
        return tuple(f"{what} {k}" for what in ("both", "answered", "labelled") for k in range(self.classes))

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        labelled = y != UNLABELLED
        scores = at_places(outputs, self.classes, y.shape[1:])
        known = torch.where(labelled, y, 0).long()
        each = F.cross_entropy(scores, known, reduction="none", label_smoothing=self.smoothing) * labelled
        return each.flatten(1).sum(dim=1) / labelled.flatten(1).sum(dim=1).clamp_min(1)

    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        found = at_places(outputs, self.classes, y.shape[1:]).argmax(dim=1)
        labelled = y != UNLABELLED
        pairs = (y[labelled].long() * self.classes + found[labelled]).bincount(minlength=self.classes**2)
        table = pairs.reshape(self.classes, self.classes)
        return torch.cat([table.diagonal(), table.sum(dim=0), table.sum(dim=1)]).double()

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        both, answered, labelled = np.split(sums, 3, axis=-1)
        return overlap_scores(both, answered, labelled)

    def vectors(self, y: Tensor) -> Tensor:
        labelled = y != UNLABELLED
        one_hot = F.one_hot(torch.where(labelled, y, 0).long(), self.classes) * labelled.unsqueeze(-1)
        return pooled(one_hot.movedim(-1, 1))

    def guess(self, y: Tensor) -> Tensor:
        return torch.bincount(y[y != UNLABELLED].long(), minlength=self.classes).float()

    def answers(self, outputs: Tensor) -> Tensor:
        return outputs[:, : self.classes].argmax(dim=1)

    def chances(self, outputs: Tensor) -> Tensor:
        return outputs[:, : self.classes].softmax(dim=1)

    def fault(self, y: np.ndarray) -> str:
        if y.ndim != 3 or not np.issubdtype(y.dtype, np.integer):
            return f"they are {y.dtype} of shape {y.shape}; class numbers of shape [rows, height, width] are allowed"
        empty = np.flatnonzero((y == UNLABELLED).all(axis=(1, 2)))
        if len(empty):
            return f"no place of row {empty[0]} has one"
        odd = y[((y < 0) | (y >= self.classes)) & (y != UNLABELLED)]
        return (
            f"one of them is {odd[0]}; allowed are 0 to {self.classes - 1}, and {UNLABELLED} for none"
            if len(odd)
            else ""
        )
