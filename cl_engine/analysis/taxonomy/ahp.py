"""From pairwise win rates to one number a candidate: the analytic hierarchy process, and two others to hold it against."""

from __future__ import annotations

import numpy as np

from cl_engine.errors import UsageError

Array = np.ndarray
SURE = 0.999  # win rates are cut to between 1 − this and this, as in Taskonomy: no ratio is without bound
# mean consistency index of random comparisons, for 1, 2, … candidates (Saaty 1980)
RANDOM_INDEX = (0.0, 0.0, 0.58, 0.90, 1.12, 1.24, 1.32, 1.41, 1.45, 1.49)


def win_rates(losses: Array) -> Array:
    """Return how often each candidate loses less than each other on the same rows, a tie counting half.

    Args:
        losses: of each candidate on each row ``[n, rows]``.

    Returns:
        ``[n, n]``, one half on the diagonal; two cells that mirror each other sum to 1.

    Raises:
        UsageError: if there are no rows, or a loss is NaN.
    """
    losses = np.asarray(losses)
    if losses.ndim != 2 or not losses.shape[1]:
        raise UsageError(f"win rates need the losses of candidates on rows [n, rows], found {list(losses.shape)}")
    if np.isnan(losses).any():
        raise UsageError(f"win rates: the losses of candidate {int(np.isnan(losses).any(axis=1).argmax())} hold NaN")
    return np.stack([(one < losses).mean(axis=1) + 0.5 * (one == losses).mean(axis=1) for one in losses])


def principal(wins: Array) -> tuple[Array, float, float]:
    """Return priorities of candidates, λ_max and the consistency ratio, from win rates (Saaty 1980; Zamir et al. 2018, §3.3).

    The priorities are the positive eigenvector of the ratios ``wins[i, j] / wins[j, i]``, by power iteration, each step of which
    squares the matrix: it is positive, so that the vector is real and the only one (Perron). They sum to 1. The ratio is 0 where
    all comparisons agree with each other, and about 1 where they are random; below .1 is the usual limit. Of more than ten
    candidates it is against λ_max of random comparisons by the line of Alonso & Lamata (2006), 2.7699 n − 4.3513.

    Args:
        wins: win rates ``[n, n]``.

    Raises:
        UsageError: if they are not square, or not between 0 and 1.
    """
    cut = np.clip(_checked(wins), 1 - SURE, SURE)
    ratios = cut / cut.T
    power, before = ratios / ratios.sum(), np.zeros(len(ratios))
    for _ in range(60):
        power = power @ power
        power /= power.sum()
        vector = power.sum(axis=1)
        if np.allclose(vector, before, rtol=1e-14, atol=0):
            break
        before = vector
    n, largest = len(ratios), float((ratios @ vector / vector).mean())
    index = RANDOM_INDEX[n - 1] if n <= len(RANDOM_INDEX) else (1.7699 * n - 4.3513) / (n - 1)
    return vector, largest, (largest - n) / (n - 1) / index if index else 0.0


def borda(wins: Array) -> Array:
    """Return the mean win rate of each candidate against the others, scaled to sum 1; of one candidate 1."""
    shares = _checked(wins).sum(axis=1) - np.diag(wins)
    return shares / shares.sum() if len(shares) > 1 else np.ones(1)


def bradley_terry(wins: Array) -> Array:
    """Return the strengths under which ``wins[i, j] = v_i / (v_i + v_j)`` is likeliest, scaled to sum 1 (Hunter 2004, eq. 3)."""
    cut = np.clip(_checked(wins), 1 - SURE, SURE)
    np.fill_diagonal(cut, 0)
    strengths = np.full(len(cut), 1 / len(cut))
    for _ in range(10_000):
        met = 1 / (strengths[:, None] + strengths)
        np.fill_diagonal(met, 0)
        after = cut.sum(axis=1) / met.sum(axis=1) if len(cut) > 1 else np.ones(1)
        after /= after.sum()
        if np.allclose(after, strengths, rtol=1e-10, atol=0):
            break
        strengths = after
    return after


def _checked(wins: Array) -> Array:
    wins = np.array(wins, dtype=float)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or not len(wins):
        raise UsageError(f"win rates must be square, found {list(wins.shape)}")
    if not ((wins >= 0) & (wins <= 1)).all():
        raise UsageError("win rates must lie between 0 and 1, and none may be NaN")
    return wins
