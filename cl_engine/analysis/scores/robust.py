"""Aggregates of few seeds over several streams, with stratified bootstrap intervals (Agarwal et al. 2021).

As the library ``rliable`` has them: seeds are drawn anew within each stream, and what is said of all streams is
computed from the draws. Scores of a method are given stream by stream, ``[S]`` each; methods may have different numbers of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cl_engine.analysis.scores.statistics import LEVEL

Array = np.ndarray
DRAWS = 2000
AT_ONCE = 500  # draws that are held in memory


@dataclass(frozen=True)
class Estimate:
    """A number, or numbers along a curve, with the ends of its 95 % interval; of one seed a stream the ends are NaN.

    >>> Estimate(np.array(0.5), np.array(0.4), np.array(0.6)).value
    array(0.5)
    """

    value: Array
    low: Array
    high: Array


def iqm(strata: Sequence[Array]) -> Estimate:
    """Return the interquartile mean over all seeds of all streams (Agarwal et al. 2021): a quarter at either end is left out."""
    return _estimated([strata], lambda draws: _trimmed(np.concatenate(draws[0], axis=1)))


def performance_profile(strata: Sequence[Array], levels: Array, higher: bool = True) -> Estimate:
    """Return for each of the levels ``[L]`` the share of seeds whose score is better (Agarwal et al. 2021, eq. 1).

    Each stream counts alike. Better is more, or less where ``higher`` is false.
    """

    def shares(draws: Sequence[Sequence[Array]]) -> Array:
        found = [(own[:, :, None] > levels if higher else own[:, :, None] < levels).mean(axis=1) for own in draws[0]]
        return np.asarray(np.mean(found, axis=0))

    return _estimated([strata], shares)


def probability_of_improvement(one: Sequence[Array], other: Sequence[Array], higher: bool = True) -> Estimate:
    """Return how likely a seed of one method is better than one of the other, mean over their common streams.

    Ties count half (the Mann–Whitney U statistic over the number of pairs).

    Raises:
        ValueError: if the two are of different numbers of streams.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} streams: both methods need the same ones")
    way = 1 if higher else -1

    def chance(draws: Sequence[Sequence[Array]]) -> Array:
        found = []
        for mine, its in zip(*draws, strict=True):
            gap = way * (mine[:, :, None] - its[:, None, :])
            found.append(((gap > 0) + 0.5 * (gap == 0)).mean(axis=(1, 2)))
        return np.asarray(np.mean(found, axis=0))

    return _estimated([one, other], chance)


def _trimmed(scores: Array) -> Array:
    """Return the mean of each row ``[B, N]`` without a quarter at either end, as SciPy's ``trim_mean``."""
    cut = int(0.25 * scores.shape[1])
    return np.asarray(np.sort(scores, axis=1)[:, cut : scores.shape[1] - cut].mean(axis=1))


def _estimated(methods: Sequence[Sequence[Array]], statistic: Callable[[Sequence[Sequence[Array]]], Array]) -> Estimate:
    """Return a statistic of draws ``[B, …]`` as it is of the scores themselves, and its percentile interval."""
    held = [[np.asarray(values, dtype=float) for values in strata] for strata in methods]
    value = statistic([[values[None] for values in strata] for strata in held])[0]
    if any(len(values) < 2 or not np.isfinite(values).all() for strata in held for values in strata):
        nothing = np.full(np.shape(value), np.nan)
        return Estimate(value, nothing, nothing)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS // AT_ONCE):
        again = [[values[random.integers(len(values), size=(AT_ONCE, len(values)))] for values in s] for s in held]
        drawn.append(statistic(again))
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Estimate(np.asarray(value), np.asarray(low), np.asarray(high))
