"""Choice of what to try next by a Gaussian process over what has been tried."""

from __future__ import annotations

import warnings

import numpy as np

NOISE = 0.01  # variance of a loss that the process begins with
CAUTION = 2.0  # deviations below the mean that are hoped for
JITTER = 0.001  # of the loss, which an improvement has to exceed


class Surrogate:
    """Candidates as points in a space, some of which have been tried and had a loss.

    A Gaussian process of squared-exponential kernel, whose variance, length scale and noise are fitted to the losses, says
    what others would come to (Valkov et al. 2024, §5). Points that are not finite are never tried.

    >>> points = np.array([[0.0], [0.1], [5.0]])
    >>> tries = Surrogate(points, worth=0.001)
    >>> tries.observe(0, 1.0)
    >>> tries.central(1)
    [1]

    Attributes:
        losses: of the candidates that have been tried, by place.
    """

    def __init__(self, points: np.ndarray, worth: float) -> None:
        """Choose among ``points [K, D]``, as long as an improvement of ``worth`` is expected."""
        self._points, self._worth = points, worth
        self._usable = np.isfinite(points).all(axis=1)
        self.losses: dict[int, float] = {}

    def observe(self, place: int, loss: float) -> None:
        """Take in the loss of a candidate that was tried; one that is not finite stands for a great one."""
        finite = [value for value in self.losses.values() if np.isfinite(value)]
        self.losses[place] = loss if np.isfinite(loss) else max([1.0, *finite])

    @property
    def best(self) -> int:
        """The candidate of the least loss so far."""
        return min(self.losses, key=lambda place: self.losses[place])

    def central(self, count: int) -> list[int]:
        """Return up to ``count`` candidates that have not been tried, those nearest to all others: they tell most."""
        usable = np.flatnonzero(self._usable)
        points = self._points[usable]
        distance = np.sqrt(np.square(points[:, None] - points[None]).sum(axis=2)).mean(axis=1)
        found = [int(usable[place]) for place in np.argsort(distance, kind="stable")]
        return [place for place in found if place not in self.losses][:count]

    def next(self) -> tuple[int, float] | None:
        """Return the candidate of the least hoped-for loss, and the improvement expected of it; None: nothing is worth a try."""
        left = [place for place in np.flatnonzero(self._usable).tolist() if place not in self.losses]
        if not left:
            return None
        mean, deviation = self._expected(left)
        chosen = int(np.argmin(mean - CAUTION * deviation))
        improvement = expected_improvement(min(self.losses.values()) - JITTER, mean[chosen], deviation[chosen])
        return (left[chosen], improvement) if improvement >= self._worth else None

    def _expected(self, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of the losses of candidates that have not been tried."""
        # a second to import, which runs without such a search need not wait for
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        kernel = ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(NOISE)
        process = GaussianProcessRegressor(kernel)
        losses = np.array(list(self.losses.values()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of few losses a length may be at its bound
            process.fit(self._points[list(self.losses)], losses - losses.mean())
            mean, deviation = process.predict(self._points[places], return_std=True)
        return mean + losses.mean(), deviation


def expected_improvement(below: float, mean: float, deviation: float) -> float:
    """Return by how much a normal number is expected to lie below another, less being better (Mockus 1978).

    >>> round(expected_improvement(0.0, 0.0, 1.0), 4)
    0.3989
    """
    from scipy.stats import norm

    if deviation <= 0:
        return max(0.0, below - mean)
    by = (below - mean) / deviation
    return float(deviation * (by * norm.cdf(by) + norm.pdf(by)))
