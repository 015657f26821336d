"""The scores of continual learning in closed form, each from the whole matrix R and named after its paper.

Conventions: ``R[e, j, …]`` is the accuracy on task ``j`` in evaluation ``e`` (NaN: not measured; further axes, such as
seeds, are free). ``steps[e]`` is the experience learned last before evaluation ``e``, −1 for the untrained learner;
``learned[j]`` is the experience at which task ``j`` was learned first, −1 if never. For a stream in which every task
comes once and is tested after each experience, these are the papers' R[i, j] with i = steps[e] and learned[j] = j.
A score that is undefined (one task only) or lacks a cell is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
Steps = Sequence[int] | Array


def acc(R: Array, steps: Steps, learned: Steps) -> Array:
    """Average accuracy over the tasks met so far, for every evaluation (Lopez-Paz & Ranzato 2017, eq. 2).

    ACC = 1/T Σ_j R[T, j]; returns ``[E, …]``.
    """
    return _by_evaluation(R, steps, learned, lambda row, e, met, old: row[met])


def bwt(R: Array, steps: Steps, learned: Steps) -> Array:
    """Backward transfer (Lopez-Paz & Ranzato 2017, eq. 3): 1/(T−1) Σ_{j<T} (R[T, j] − R[j, j]).

    As in the paper, divided by T − 1; the authors' released code divides by T. Returns ``[E, …]``.
    """
    after = diagonal(R, steps, learned)
    return _by_evaluation(R, steps, learned, lambda row, e, met, old: row[old] - after[old])


def fwt(R: Array, steps: Steps, learned: Steps) -> Array:
    """Forward transfer (Lopez-Paz & Ranzato 2017, eq. 4): 1/(T−1) Σ_{j>1} (R[j−1, j] − b_j), b_j the untrained accuracy.

    Returns ``[E, …]``; needs evaluations of tasks ahead and the untrained row.
    """
    gain, first = forward_transfer_by_task(R, steps, learned), np.asarray(learned)
    return _by_evaluation(R, steps, first, lambda row, e, met, old: gain[met & (first > 0)])


def forward_transfer_by_task(R: Array, steps: Steps, learned: Steps) -> Array:
    """Forward transfer of each task, a term of `fwt`: R[j−1, j] − b_j, b_j the untrained accuracy.

    Returns ``[T, …]``; NaN for the first task, and where the task was not tested before it was learned, or untrained.
    """
    R, order, first = np.asarray(R, dtype=float), np.asarray(steps), np.asarray(learned)
    before = np.full(R.shape[1:], np.nan)
    for task, at in enumerate(first):
        rows = np.flatnonzero(order == at - 1)
        if at > 0 and len(rows):
            before[task] = R[rows[0], task]
    untrained = np.full(R.shape[1:], np.nan)
    for row in R[order == -1][::-1]:  # in a stream without end, tasks are tested untrained as they come into view
        untrained = np.where(np.isfinite(row), row, untrained)
    return np.asarray(before - untrained)


def forgetting(R: Array, steps: Steps, learned: Steps) -> Array:
    """Forgetting (Chaudhry et al. 2018, eq. 3): 1/(k−1) Σ_{j<k} max_{l<k} (R[l, j] − R[k, j]), l over trained learners.

    Returns ``[E, …]``.
    """
    R, order = np.asarray(R, dtype=float), np.asarray(steps)

    def drop(row: Array, e: int, met: Array, old: Array) -> Array:
        earlier = R[(order < order[e]) & (order >= 0)][:, old]
        best = np.fmax.reduce(earlier, axis=0) if len(earlier) else np.full(row[old].shape, np.nan)
        return np.asarray(best - row[old])

    return _by_evaluation(R, order, learned, drop)


def diagonal(R: Array, steps: Steps, learned: Steps) -> Array:
    """R[j, j]: the accuracy on each task right after it was learned first; ``[T, …]``."""
    R, at = np.asarray(R), np.asarray(learned)
    result = np.full(R.shape[1:], np.nan)
    tested, first = np.unique(np.asarray(steps), return_index=True)
    tasks = np.flatnonzero((at >= 0) & np.isin(at, tested))
    result[tasks] = R[first[np.searchsorted(tested, at[tasks])], tasks]
    return result


def learning_accuracy(R: Array, steps: Steps, learned: Steps) -> Array:
    """Learning accuracy (Riemer et al. 2019): 1/T Σ_j R[j, j], over the tasks learned; ``[…]``."""
    met = np.asarray(learned) >= 0
    return _mean(diagonal(R, steps, learned)[met])


def intransigence(R: Array, joint: Array, steps: Steps, learned: Steps) -> Array:
    """Intransigence (Chaudhry et al. 2018, eq. 5), a task each: a*_k − R[k, k]; ``[T, …]``.

    ``joint [T, …]`` is a*_k, the accuracy on task k of a net trained on all data up to task k (`diagonal` of a
    ``joint`` run on the same stream).
    """
    return np.asarray(np.asarray(joint) - diagonal(R, steps, learned))


def transfer(R: Array, reference: Array, steps: Steps, learned: Steps) -> Array:
    """Transfer to each task: R[k, k] − the accuracy of a net trained on task k alone; ``[T, …]``.

    ``reference [T, …]`` is the `diagonal` of an ``independent`` run on the same stream. The last entry is the
    transfer T(S) of a stream by Veniat, Denoyer & Ranzato (2021).
    """
    return np.asarray(diagonal(R, steps, learned) - np.asarray(reference))


def learning_curve_area(accuracy: Array, batches: Steps) -> Array:
    """Area under the learning curve, divided by its length (trapezoids): the mean accuracy while learning.

    ``accuracy [P, …]`` at the numbers of batches ``batches [P]``, increasing. For the points 0, 1, …, β the sum form of
    the same idea is LCA_β (Chaudhry et al. 2019, eq. 5): see `lca`.
    """
    x, values = np.asarray(batches, dtype=float), np.asarray(accuracy, dtype=float)
    if len(x) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(np.trapezoid(values, x, axis=0) / (x[-1] - x[0]))


def lca(accuracy: Array) -> Array:
    """LCA_β (Chaudhry et al. 2019, eq. 5): 1/(β+1) Σ_{b=0}^{β} Z_b, for ``accuracy [β+1, …]`` after 0, 1, …, β batches."""
    return _mean(np.asarray(accuracy, dtype=float))


def model_size_efficiency(total_bytes: Array) -> float:
    """Model size efficiency (Díaz-Rodríguez et al. 2018): MS = min(1, 1/N Σ_i Mem(θ_1)/Mem(θ_i)).

    ``total_bytes [N]`` is what the learner holds after each experience; NaN for a learner that holds nothing.
    """
    sizes = np.asarray(total_bytes, dtype=float)
    if not len(sizes) or (sizes <= 0).any():
        return float("nan")
    return float(min(1.0, (sizes[0] / sizes).mean()))


def _by_evaluation(R: Array, steps: Steps, learned: Steps, cells: Callable[[Array, int, Array, Array], Array]) -> Array:
    """Average ``cells(row, e, met, old)`` for every evaluation: met are the tasks learned so far, old those before."""
    R, order, first = np.asarray(R, dtype=float), np.asarray(steps), np.asarray(learned)
    result = np.full((len(R), *R.shape[2:]), np.nan)
    for e, row in enumerate(R):
        met = (first >= 0) & (first <= order[e])
        result[e] = _mean(cells(row, e, met, met & (first < order[e])))
    return result


def _mean(cells: Array) -> Array:
    return np.asarray(cells.mean(axis=0)) if len(cells) else np.full(cells.shape[1:], np.nan)
