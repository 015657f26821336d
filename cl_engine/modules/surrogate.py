"""Choice of what to try next by a Gaussian process over what has been tried."""

from __future__ import annotations

import math

import numpy as np

NOISE = 0.01  # variance of a loss that the process begins with
CAUTION = 2.0  # deviations below the mean that are hoped for
BOUNDS = ((1e-5, 1e5),) * 3  # of variance, length scale and noise
SMALLEST = 1e-10  # on the diagonal, so that there is a factor
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
        known = list(self.losses)
        squares = np.square(self._points[:, None] - self._points[None, known]).sum(axis=2)
        losses = np.array([self.losses[place] for place in known])
        process = Process(squares[known], losses - losses.mean())
        mean, deviation = process.at(squares[places])
        return mean + losses.mean(), deviation


class Process:
    """A Gaussian process whose variance, length scale and noise make the losses likeliest (Rasmussen & Williams 2006, §5.4.1).

    Written out, as scikit-learn's takes most of the time of a search among so few.

    >>> process = Process(np.array([[0.0, 4.0], [4.0, 0.0]]), np.array([-1.0, 1.0]))
    >>> mean, deviation = process.at(np.array([[0.0, 4.0]]))
    >>> bool(mean[0] < 0)
    True
    """

    def __init__(self, squares: np.ndarray, losses: np.ndarray) -> None:
        """Fit to ``losses [n]``, which lie around 0, of points whose squared distances are ``squares [n, n]``."""
        from scipy.optimize import minimize

        self._squares, self._losses = squares, losses
        bounds = [(math.log(low), math.log(high)) for low, high in BOUNDS]
        start = np.log([1.0, 1.0, NOISE])
        found = minimize(self._unlikely, start, jac=True, method="L-BFGS-B", bounds=bounds)
        self._variance, self._length, self._noise = np.exp(found.x)
        self._factor, self._weights = self._solved(self._kernel(squares) + self._noise * np.eye(len(losses)))

    def at(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation ``[m]``, noise in it, of points at these squared distances ``[m, n]`` from those known."""
        beside = self._kernel(squares)
        explained = np.square(np.linalg.solve(self._factor, beside.T)).sum(axis=0)
        variance = np.maximum(self._variance + self._noise - explained, 0.0)
        return beside @ self._weights, np.sqrt(variance)

    def _kernel(self, squares: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._variance * np.exp(-0.5 * squares / self._length**2)
        return found

    def _solved(self, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor = np.linalg.cholesky(covariance)
        return factor, np.linalg.solve(factor.T, np.linalg.solve(factor, self._losses))

    def _unlikely(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the negative log of the marginal likelihood, and its gradient by the logs of variance, length and noise."""
        self._variance, self._length, noise = np.exp(logs)
        kernel, count = self._kernel(self._squares), len(self._losses)
        factor, weights = self._solved(kernel + (noise + SMALLEST) * np.eye(count))
        value = 0.5 * self._losses @ weights + np.log(np.diagonal(factor)).sum() + 0.5 * count * math.log(2 * math.pi)
        inverse = np.linalg.inv(factor)
        pull = np.outer(weights, weights) - inverse.T @ inverse
        slopes = (kernel, kernel * self._squares / self._length**2, noise * np.eye(count))
        return float(value), np.array([-0.5 * (pull * slope).sum() for slope in slopes])


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
