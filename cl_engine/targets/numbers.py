"""Numbers a row: regression."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.metrics.sums import number_scores
from cl_engine.nn.target import Target, of_rows
from cl_engine.options import option

LEAST_RMSE = 1e-5  # that a signal-to-noise ratio tells from none: scores are finite


class Numbers(Target):
    """Numbers a row ``[N, D]``, learned by their squared error and measured by the share of their variance explained.

    Explained variance is 1 − Var(y − ŷ) / Var(y), its mean over the numbers; 0 for whoever says the same for all rows. Also
    given: root mean squared error and mean absolute error, in the labels' unit. Outputs are in units of ``std`` from ``mean``.
    The peak signal-to-noise ratio −20 log₁₀ rmse, in decibels, is of labels whose greatest value is 1, and 100 at most.

    >>> target, y = Numbers.of(numbers=1), torch.tensor([[0.0], [1.0], [2.0]])
    >>> target.scores(target.sums(y + 1, y).numpy())
    {'explained_variance': np.float64(1.0), 'rmse': np.float64(1.0), 'mae': np.float64(1.0)}
    """

    numbers: int = option(..., "numbers a row", ge=1)
    mean: list[float] = option([0.0], "what an output of 0 stands for, one for all numbers or one each")
    std: list[float] = option([1.0], "what an output of 1 adds to it, one for all numbers or one each")

    measured_by: Literal["explained_variance", "rmse", "mse", "mae", "psnr"] = option(
        "explained_variance",
        "score: share of the variance explained, an error, of which less is better, or PSNR, for labels up to 1",
    )

    @property
    def measure(self) -> Measure:
        unit = "dB" if self.measured_by == "psnr" else "1"
        return Measure(self.measured_by, unit, higher=self.measured_by in ("explained_variance", "psnr"))

    @property
    def outputs(self) -> int:
        return self.numbers

    @property
    def sum_names(self) -> tuple[str, ...]:
        names = ("labels", "squared labels", "errors", "squared errors", "absolute errors")
        return ("rows", *(f"{name} {d}" for name in names for d in range(self.numbers)))

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (of_rows(outputs, self.numbers) - self._scaled(y)).square().mean(dim=1)

    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        error, y = self.answers(outputs).double() - y, y.double()
        parts = (y, y.square(), error, error.square(), error.abs())
        return torch.cat([y.new_tensor([len(y)]), *(part.sum(dim=0) for part in parts)])

    def sums_of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        error, y = self.answers(outputs.flatten(0, 1)).reshape(y.shape).double() - y, y.double()
        parts = (y, y.square(), error, error.square(), error.abs())
        return torch.cat([y.new_full((len(y), 1), y.shape[1]), *(part.sum(dim=1) for part in parts)], dim=1)

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        found = number_scores(sums[..., :1], sums[..., 1:])
        if self.measured_by == "mse":
            found["mse"] = found["rmse"] ** 2
        if self.measured_by == "psnr":
            found["psnr"] = -20 * np.log10(np.maximum(found["rmse"], LEAST_RMSE))
        return found

    def vectors(self, y: Tensor) -> Tensor:
        return self._scaled(y.float())

    def guess(self, y: Tensor) -> Tensor:
        return self._scaled(y.double().mean(dim=0)).float()

    def answers(self, outputs: Tensor) -> Tensor:
        own = of_rows(outputs, self.numbers)
        return own if self._as_they_are else own * own.new_tensor(self.std) + own.new_tensor(self.mean)

    def fault(self, y: np.ndarray) -> str:
        if y.ndim != 2 or y.shape[1] != self.numbers or not np.issubdtype(y.dtype, np.number):
            return f"they are {y.dtype} of shape {y.shape}; numbers of shape [rows, {self.numbers}] are allowed"
        return (
            ""
            if np.isfinite(y).all()
            else f"that of row {np.flatnonzero(~np.isfinite(y).all(axis=1))[0]} is not finite"
        )

    @property
    def _as_they_are(self) -> bool:
        """Whether outputs are the numbers themselves, so that a small step saves eight operations."""
        return not any(self.mean) and set(self.std) == {1.0}

    def _scaled(self, y: Tensor) -> Tensor:
        return y if self._as_they_are else (y - y.new_tensor(self.mean)) / y.new_tensor(self.std)
