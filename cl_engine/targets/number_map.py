"""Numbers at each place: depth, surface normals, images."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.metrics.sums import number_scores, ratio
from cl_engine.nn.target import Target, at_places, pooled
from cl_engine.options import option

Kind = Literal["plain", "depth", "normals"]
NEAR = 1.25  # a depth is right within this factor (Eigen, Puhrsch & Fergus 2014)
MEASURES = {
    "plain": Measure("explained_variance"),
    "depth": Measure("delta_1"),
    "normals": Measure("mean_angle", "degree", higher=False),
}


class NumberMap(Target):
    """Numbers at each place ``[N, C, H, W]``, learned by their absolute error; normals by one less the cosine.

    Measured by explained variance, as `numbers`; depth by δ < 1.25, the share of places where depth and answer differ by less
    than this factor (Eigen, Puhrsch & Fergus 2014); normals by the mean angle. Places whose label is NaN count for nothing.
    Also given: root mean squared and mean absolute error. Outputs are in units of ``std`` from ``mean``, but for normals.

    >>> target, y = NumberMap.of(channels=1, kind="depth"), torch.full((2, 1, 4, 4), 2.0)
    >>> target.score(target.sums(y * 1.2, y).numpy())
    np.float64(1.0)
    """

    places = measured_at_places = True
    channels: int = option(..., "numbers at each place", ge=1)
    kind: Kind = option("plain", "what they are: decides on loss and measure")
    mean: list[float] = option([0.0], "what an output of 0 stands for, one for all channels or one each")
    std: list[float] = option([1.0], "what an output of 1 adds to it, one for all channels or one each")

    @property
    def measure(self) -> Measure:
        return MEASURES[self.kind]

    @property
    def outputs(self) -> int:
        return self.channels

    @property
    def sum_names(self) -> tuple[str, ...]:
        own = {"plain": (), "depth": ("near",), "normals": ("degrees",)}[self.kind]
        names = ("labels", "squared labels", "errors", "squared errors", "absolute errors")
        return ("places", *own, *(f"{name} {c}" for name in names for c in range(self.channels)))

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        known = self._known(y)
        found, wanted = at_places(outputs, self.channels, y.shape[2:]), self._scaled(y.float().nan_to_num())
        if self.kind == "normals":
            each = 1 - F.cosine_similarity(found, wanted, dim=1, eps=1e-6)
        else:
            each = (found - wanted).abs().mean(dim=1)
        return (each * known).flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp_min(1)

    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        known = self._known(y).double()
        found = self.answers(at_places(outputs, self.channels, y.shape[2:])).double()
        y = y.double().nan_to_num()
        error = found - y
        parts = (y, y.square(), error, error.square(), error.abs())
        each = [(part * known.unsqueeze(1)).sum(dim=(0, 2, 3)) for part in parts]
        return torch.cat([known.sum().reshape(1), *self._own(found, y, known), *each])

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        plain = number_scores(sums[..., :1], sums[..., 1 + (self.kind != "plain") :])
        own = {} if self.kind == "plain" else {self.measure.name: ratio(sums[..., 1], sums[..., 0])}
        return own | plain

    def vectors(self, y: Tensor) -> Tensor:
        return pooled(torch.where(self._known(y).unsqueeze(1), self._scaled(y.float()), 0.0))

    def guess(self, y: Tensor) -> Tensor:
        mean = torch.nanmean(y.float(), dim=(0, 2, 3)).reshape(1, -1, 1, 1)
        return self._scaled(mean).flatten()

    def answers(self, outputs: Tensor) -> Tensor:
        own = outputs[:, : self.channels]
        if self.kind == "normals":
            return F.normalize(own, dim=1, eps=1e-6)
        return own * self._channel(self.std, own) + self._channel(self.mean, own)

    def fault(self, y: np.ndarray) -> str:
        if y.ndim != 4 or y.shape[1] != self.channels or not np.issubdtype(y.dtype, np.number):
            wanted = f"[rows, {self.channels}, height, width]"
            return f"they are {y.dtype} of shape {y.shape}; numbers of shape {wanted} are allowed"
        if np.issubdtype(y.dtype, np.integer):
            return ""
        if np.isinf(y).any():
            return "some are infinite; a place without a label is NaN"
        empty = np.flatnonzero(np.isnan(y).any(axis=1).all(axis=(1, 2)))
        return f"no place of row {empty[0]} has one" if len(empty) else ""

    def _own(self, found: Tensor, y: Tensor, known: Tensor) -> list[Tensor]:
        if self.kind == "depth":
            near = (found < NEAR * y) & (y < NEAR * found)
            return [(near[:, 0] * known).sum().reshape(1)]
        if self.kind == "normals":
            cosine = F.cosine_similarity(found, y, dim=1, eps=1e-6).clamp(-1, 1)
            return [(cosine.acos().rad2deg() * known).sum().reshape(1)]
        return []

    def _known(self, y: Tensor) -> Tensor:
        return ~y.isnan().any(dim=1)

    def _scaled(self, y: Tensor) -> Tensor:
        return y if self.kind == "normals" else (y - self._channel(self.mean, y)) / self._channel(self.std, y)

    def _channel(self, values: list[float], like: Tensor) -> Tensor:
        return like.new_tensor(values).reshape(1, -1, 1, 1)
