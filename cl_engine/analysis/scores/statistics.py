"""Tests and intervals for few seeds and many streams: bootstrap, exact signed ranks, Holm, average ranks, fronts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from cl_engine.core.text import number

Array = np.ndarray
LEVEL, DRAWS = 0.95, 10_000
FEW = 5  # with fewer values than this a percentile bootstrap is clearly too narrow


def sample_deviation(values: Array, axis: int = -1) -> Array:
    """Return the sample standard deviation along an axis (n − 1 in the denominator); NaN with fewer than two values."""
    values = np.asarray(values, dtype=float)
    if values.shape[axis] < 2:
        return np.full(np.delete(values.shape, axis), np.nan)
    return np.asarray(values.std(axis=axis, ddof=1))


def mean_and_deviation(values: Array, digits: int = 3) -> str:
    """Return the mean over seeds ``[S]`` and their sample deviation, as ``0.900 ± 0.012``; of one seed the mean alone."""
    deviation = float(sample_deviation(values))
    text = number(float(np.mean(values)), digits)
    return f"{text} ± {deviation:.{digits}f}" if np.isfinite(deviation) else text


def bootstrap(values: Array) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the mean (Efron & Tibshirani 1993, ch. 13).

    The 10,000 draws are the same in every call for the same number of values, so the interval is too. NaN for both ends
    with fewer than two values, or where one is NaN.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    means = values[_draws(len(values))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def stratified_bootstrap(strata: Sequence[Array]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over streams, seeds drawn anew within each (Agarwal et al. 2021).

    NaN for both ends where a stream has fewer than two values, or one is NaN.
    """
    if any(len(values) < 2 or not np.isfinite(values).all() for values in strata):
        return float("nan"), float("nan")
    random = np.random.default_rng(0)
    means = [values[random.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1) for values in strata]
    low, high = np.quantile(np.mean(means, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _draws(n: int) -> Array:
    return np.random.default_rng(0).integers(n, size=(DRAWS, n))


def signed_rank(differences: Array) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test (Wilcoxon 1945), exact, with ties too.

    Differences of zero are left out, as Wilcoxon does; p is 1 if no other is there, NaN if one is NaN. With ties among
    more than 13 differences, or more than 50 of them, it is the normal approximation.
    """
    found = np.round(np.asarray(differences, dtype=float), 12)  # differences of equal counts are equal
    if not len(found) or not np.isfinite(found).all():
        return float("nan")
    return _p_of(tuple(found[found != 0]))


@lru_cache(maxsize=2**12)  # with ties it takes a tenth of a second, and whoever draws several figures asks again
def _p_of(differences: tuple[float, ...]) -> float:
    from scipy import stats  # takes as long to import as a small report to write

    found = np.array(differences)
    n, tied = len(found), len(np.unique(np.abs(found))) < len(found)
    if not n:
        return 1.0
    method = "asymptotic" if n > 50 or (tied and n > 13) else "exact"
    chosen = stats.PermutationMethod(n_resamples=np.inf) if tied and method == "exact" else method
    return float(stats.wilcoxon(found, method=chosen).pvalue)


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that the exact signed-rank test of n pairs can give: 2^(1−n)."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p: Sequence[float] | Array) -> Array:
    """Return p-values corrected for their number (Holm 1979); NaN stays NaN and is not counted."""
    given = np.asarray(p, dtype=float)
    result, asked = np.full(given.shape, np.nan), np.flatnonzero(np.isfinite(given))
    order = asked[np.argsort(given[asked], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    result[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors)) if len(order) else []
    return result


@dataclass(frozen=True)
class Ranking:
    """Methods ranked over several streams (Demšar 2006), compared pair by pair as Benavoli et al. (2016) advise.

    >>> ranking = ranked(["a", "b"], np.array([[0.9, 0.8], [0.7, 0.6], [0.8, 0.7]]))
    >>> ranking.methods, ranking.ranks
    (('a', 'b'), (1.0, 2.0))

    Attributes:
        methods: names, the best average rank first.
        ranks: their average ranks; 1 is best, ties share theirs.
        streams: number of streams on which all of them were measured.
        friedman: p of Friedman's test that all are alike; NaN with fewer than three methods or two streams.
        pairs: ``(one, other) -> (p, p corrected by Holm)`` of the signed-rank test over streams.
        groups: sets of methods next to each other of which no two differ significantly, as positions ``(first, last)``.
        critical_difference: that of Nemenyi's test for average ranks (Demšar 2006, eq. 6), at 5 %.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    streams: int
    friedman: float
    pairs: dict[tuple[str, str], tuple[float, float]]
    groups: tuple[tuple[int, int], ...]
    critical_difference: float


def ranked(names: Sequence[str], values: Array, higher: bool = True, alpha: float = 0.05) -> Ranking:
    """Rank methods over streams.

    Args:
        names: of the methods.
        values: a score of each on each stream ``[streams, methods]``; streams with a NaN are left out.
        higher: whether more is better.
        alpha: below this a corrected p is significant.
    """
    from scipy import stats  # takes as long to import as a small report to write

    values = np.asarray(values, dtype=float)
    values = np.round(values[np.isfinite(values).all(axis=1)], 12)
    n, k = values.shape
    places = stats.rankdata(-values if higher else values, axis=1)
    ranks = places.mean(axis=0) if n else np.full(k, np.nan)
    order = np.argsort(ranks, kind="stable")
    chi = stats.friedmanchisquare(*values.T).pvalue if k >= 3 and n >= 2 and np.ptp(places, axis=1).any() else np.nan
    two = list(combinations([int(at) for at in order], 2))
    p = np.array([signed_rank(values[:, a] - values[:, b]) for a, b in two])
    corrected = holm(p)
    found = {(names[a], names[b]): (float(x), float(y)) for (a, b), x, y in zip(two, p, corrected, strict=True)}
    methods = tuple(names[at] for at in order)
    differ = {pair for pair, (_, y) in found.items() if y < alpha}
    return Ranking(
        methods=methods,
        ranks=tuple(float(ranks[at]) for at in order),
        streams=n,
        friedman=float(chi),
        pairs=found,
        groups=stretches(methods, differ),
        critical_difference=critical_difference(k, n, alpha),
    )


def critical_difference(methods: int, streams: int, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference of average ranks, q_α √(k(k+1)/6N) (Demšar 2006, eq. 6)."""
    from scipy import stats  # takes as long to import as a small report to write

    if methods < 2 or streams < 1:
        return float("nan")
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * streams)))


def stretches(methods: Sequence[str], differ: set[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    """Return the longest stretches of methods of which no two differ, none inside another."""
    found: list[tuple[int, int]] = []
    for first in range(len(methods)):
        last = first
        while last + 1 < len(methods) and not any(
            (methods[at], methods[last + 1]) in differ for at in range(first, last + 1)
        ):
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)


def front(gain: Array, cost: Array) -> Array:
    """Return which points no other dominates: none has at least the gain for at most the cost, and one of the two better.

    Points with a NaN are not on the front. Returns bool ``[N]``.
    """
    gain, cost = np.asarray(gain, dtype=float), np.asarray(cost, dtype=float)
    better = (gain[None] >= gain[:, None]) & (cost[None] <= cost[:, None])
    strictly = (gain[None] > gain[:, None]) | (cost[None] < cost[:, None])
    return np.asarray(np.isfinite(gain + cost) & ~(better & strictly).any(axis=1))
