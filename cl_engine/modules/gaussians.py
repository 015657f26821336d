"""Gaussians of inputs, as rows of numbers that new inputs are held against, a thousand at the price of one product."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.nn.net import Net

SMALLEST = 1e-6  # variance of inputs that never change


class Gaussians:
    """Gaussians over inputs of one width, of which ``dimensions`` are looked at: those of a random projection, if it is wider.

    A row holds mean, precision (its lower triangle, off the diagonal twice) and log-determinant of the covariance, so that
    nothing is decomposed when new inputs are held against it (Valkov et al. 2024, §4; there mean and covariance are kept).
    The covariance is estimated as if there were ``dimensions`` + 1 rows more of the mean variance in every direction, so that
    there is a Gaussian of few rows too, and of inputs of which some never change.

    >>> found = Gaussians(width=2, dimensions=20)
    >>> near, far = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]]), torch.tensor([[[9.0, 9.0]]])
    >>> row = found.row(near)
    >>> bool(found.log_density(row.unsqueeze(1), near)[0, 0] / 3 > found.log_density(row.unsqueeze(1), far)[0, 0])
    True

    Attributes:
        dimensions: numbers of an input that are looked at.
        size: numbers of a row.
    """

    def __init__(self, width: int, dimensions: int) -> None:
        self.dimensions = min(width, dimensions)
        # drawn here, as nothing can be drawn where seeds are looked at side by side
        self._projection = None if width == self.dimensions else _projection(width, self.dimensions)
        self.size = self.dimensions + self.dimensions * (self.dimensions + 1) // 2 + 1

    def projected(self, x: Tensor) -> Tensor:
        """Return inputs ``[…, width]`` as they are looked at, ``[…, dimensions]``, float32."""
        flat = x.to(torch.float32)
        if self._projection is None:
            return flat
        self._projection = self._projection.to(x.device)
        return flat @ self._projection

    def row(self, seen: Tensor) -> Tensor:
        """Return the Gaussian of projected inputs ``[S, N, dimensions]`` as a row of each seed, ``[S, size]``."""
        d, mean, covariance = self.dimensions, *_moments(seen)
        variance = covariance.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(SMALLEST)
        few = (d + 1) / (seen.shape[1] + d + 1)
        covariance = (1 - few) * covariance + few * torch.diag_embed(variance.unsqueeze(1).expand(-1, d))
        factor = torch.linalg.cholesky(covariance)
        packed = self._packed(torch.cholesky_inverse(factor), twice=True)
        logdet = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1, keepdim=True)
        return torch.cat([mean, packed, logdet], dim=1).to(torch.float32)

    def log_density(self, rows: Tensor, seen: Tensor) -> Tensor:
        """Return how well each of ``rows [S, T, size]`` explains projected inputs ``[S, N, dimensions]``: ``[S, T]``, float64.

        It is the sum over the inputs of the log of the density; of them their moments alone are looked at.
        """
        d, (mean, covariance) = self.dimensions, _moments(seen)
        kept, precision, logdet = rows.double().split([d, self.size - d - 1, 1], dim=2)
        # along tasks last, so that what is picked are rows as they lie in memory
        off = (mean.unsqueeze(1) - kept).transpose(1, 2).contiguous()
        upper, left = torch.tril_indices(d, d, device=rows.device)
        spread = self._packed(covariance, twice=False).unsqueeze(2) + off[:, upper] * off[:, left]
        distance = torch.einsum("stp,spt->st", precision, spread)
        found: Tensor = -0.5 * seen.shape[1] * (d * math.log(2 * math.pi) + logdet.squeeze(2) + distance)
        return found

    def _packed(self, matrices: Tensor, *, twice: bool) -> Tensor:
        """Return the lower triangles of symmetric matrices ``[S, d, d]``; ``twice`` counts what is off the diagonal double."""
        upper, left = torch.tril_indices(self.dimensions, self.dimensions, device=matrices.device)
        found = matrices[:, upper, left]
        return found * torch.where(upper == left, 1.0, 2.0) if twice else found


def inputs_seen(net: Net, gaussians: Gaussians, x: Tensor) -> Tensor:
    """Return the inputs of a net as Gaussians look at them, ``[N, dimensions]``: scaled and projected."""
    return torch.cat([gaussians.projected(net.prepare(part).flatten(1)) for part in net.chunks(x)])


def _moments(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean ``[S, d]`` and covariance ``[S, d, d]`` of inputs ``[S, N, d]``, float64."""
    rows = torch.nan_to_num(seen.double())
    mean = rows.mean(dim=1)
    off = rows - mean.unsqueeze(1)
    return mean, off.transpose(1, 2) @ off / rows.shape[1]


@lru_cache(maxsize=64)
def _projection(width: int, dimensions: int) -> Tensor:
    """Return a matrix ``[width, dimensions]`` that is the same for all inputs of this width."""
    drawn = torch.randn(width, dimensions, generator=rng.tensors(0, "projection", width, dimensions))
    return drawn / math.sqrt(dimensions)
