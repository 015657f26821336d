"""Scores of lifelong learning: maintenance, remembering, contrasts, and learning against experts.

R, ``steps`` and ``learned`` are as in `metrics`; ``tasks [steps]`` is the task of each experience, in which a task may come
back. Definitions named l2metrics are those of that package (3.1), stated by New et al. (2022); it scales accuracies to 0–100
first, which is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_engine.metrics.matrix_scores import diagonal

Array = np.ndarray
Steps = Sequence[int] | Array


def performance_maintenance(R: Array, steps: Steps, tasks: Steps) -> Array:
    """Performance maintenance (l2metrics, method mrlep; New et al. 2022): mean over tasks of how later tests differ.

    For a task, the mean of R[e, j] − R[e', j] over all tests e after e', where e' is the first test of j after it was
    trained most recently before e; then the mean over tasks that have any. 0: kept, negative: forgotten. NaN with none.
    Returns ``[…]``.
    """
    R, order, arrivals = np.asarray(R, dtype=float), np.asarray(steps), np.asarray(tasks)
    by_time = np.argsort(order, kind="stable")
    means = []
    for task in range(R.shape[1]):
        cells = R[by_time, task]
        whole = (order[by_time] >= 0) & np.isfinite(cells).all(axis=tuple(range(1, cells.ndim)))
        when, values = order[by_time][whole], cells[whole]
        # for each time it was trained, the place of the first test after it; several may have the same
        first = np.searchsorted(when, np.flatnonzero(arrivals == task), side="left")
        first = np.unique(first[first < len(when)])
        later = np.setdiff1d(np.arange(first[0], len(when)), first) if len(first) else np.array([], dtype=int)
        if len(later):
            latest = first[np.searchsorted(first, later, side="right") - 1]
            means.append((values[later] - values[latest]).mean(axis=0))
    return np.asarray(np.mean(means, axis=0)) if means else np.full(R.shape[2:], np.nan)


def backward_transfer_all(R: Array, steps: Steps, learned: Steps) -> Array:
    """Backward transfer over all rows (Díaz-Rodríguez et al. 2018): Σ_{i>j} (R[i, j] − R[j, j]) / (N(N−1)/2).

    The mean over every test of a task after a later one was learned. NaN if a cell is missing, or with one task only.
    """
    R, order, first = np.asarray(R, dtype=float), np.asarray(steps), np.asarray(learned)
    after = diagonal(R, order, first)
    total, count = np.zeros(R.shape[2:]), 0
    for e, row in enumerate(R):
        old = (first >= 0) & (order[e] > first)
        total = total + (row[old] - after[old]).sum(axis=0)
        count += int(old.sum())
    return np.asarray(total / count) if count else np.full(R.shape[2:], np.nan)


def remembering(R: Array, steps: Steps, learned: Steps) -> Array:
    """Remembering (Díaz-Rodríguez et al. 2018): REM = 1 − |min(BWT, 0)|, BWT that of `backward_transfer_all`; ``[…]``."""
    return np.asarray(1 - np.abs(np.minimum(backward_transfer_all(R, steps, learned), 0)))


def transfer_matrix(R: Array, steps: Steps, normalised: bool = True) -> Array:
    """What learning each experience did to each task ``[steps, T, …]``: between the tests before it and after it.

    Normalised it is the contrast (p₂ − p₁)/(p₁ + p₂) of l2metrics (New et al. 2022): −1 all was lost, 1 all was won, NaN
    where both are 0; else the difference p₂ − p₁. For a task not yet learned it is forward transfer, for one learned before
    backward transfer. NaN where a test is missing.
    """
    R, order = np.asarray(R, dtype=float), np.asarray(steps)
    rows: dict[int, Array] = {}
    for e, step in enumerate(order):  # in a stream without end, tasks are tested untrained as they come into view
        rows[int(step)] = np.fmax(rows[-1], R[e]) if step == -1 and -1 in rows else R[e]
    count = int(order.max(initial=-1)) + 1
    found = np.full((count, *R.shape[1:]), np.nan)
    for step in range(count):
        if step in rows and step - 1 in rows:
            before, after = rows[step - 1], rows[step]
            total = before + after if normalised else np.ones_like(before)
            found[step] = np.divide(after - before, total, out=np.full_like(before, np.nan), where=total != 0)
    return found


def relative_performance(curve: Array, expert: Array) -> Array:
    """Performance relative to a single-task expert (l2metrics): Σ_p curve / Σ_p expert over their common length.

    ``curve [P, …]`` and ``expert [Q, …]`` are accuracies while learning the same task, tested at the same points, in the
    stream and alone. NaN where the expert's sum is 0, or a curve has no point. Returns ``[…]``.
    """
    length = min(len(curve), len(expert))
    own, alone = (np.sum(np.asarray(each, dtype=float)[:length], axis=0) for each in (curve, expert))
    return np.asarray(np.divide(own, alone, out=np.full(np.shape(own), np.nan), where=alone != 0))


def saturation(curve: Array) -> tuple[float, int]:
    """Return the largest moving average of a learning curve ``[P]``, and the first point that has it (l2metrics).

    The window is a fifth of the points, at most 100; below three points there is none. At both ends the curve is
    continued by its mirror image.
    """
    values = np.asarray(curve, dtype=float)
    window = min(int(len(values) * 0.2), 100)
    if window >= 3:
        mirrored = np.concatenate([values[window - 1 : 0 : -1], values, values[-2 : -window - 1 : -1]])
        smooth = np.convolve(np.full(window, 1 / window), mirrored, mode="valid")
        start = int(np.floor(window / 2 - 1))
        values = smooth[start : len(smooth) - int(np.ceil(window / 2))]
    at = int(np.argmax(values))
    return float(values[at]), at


def sample_efficiency(curve: Array, expert: Array) -> float:
    """Sample efficiency (l2metrics): (sat / sat_expert) · (n_expert / n), how high and how soon a curve saturates.

    sat and n are the `saturation` of the curve ``[P]`` and of the single-task expert's ``[Q]``, tested at the same points;
    n counts points from the first test. 0 where the curve falls (the slope of its regression line is negative) or saturates
    below a fifth of the expert's level. NaN where one of the two is highest at its first point: l2metrics skips the task.
    """
    if not len(curve) or not len(expert):
        return float("nan")
    (own, at), (alone, at_alone) = saturation(curve), saturation(expert)
    if at == 0 or at_alone == 0:
        return float("nan")
    slope = np.polyfit(np.arange(len(curve)), np.asarray(curve, dtype=float), 1)[0]
    if (
        own < 0.2 * alone or round(float(slope), 12) < 0
    ):  # a curve that rises and falls alike has slope 0 but for rounding
        return 0.0
    return own / alone * at_alone / at
