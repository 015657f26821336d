"""Scores of continual evaluation: earlier tasks while another is learned (De Lange, van de Ven & Tuytelaars 2023).

A course is the accuracy on one task in the order in which it was tested, ``[P, …]`` (further axes, such as seeds, are
free), beginning with the first test after it was learned or, for windows, before its first batch. The papers test after
every iteration; a course with fewer points gives a minimum that is at most too high, and windows that count tests, not
iterations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def min_acc(courses: Sequence[Array]) -> Array:
    """Average minimum accuracy (De Lange et al. 2023, eq. 2): 1/(k−1) Σ_{i<k} min_n A(E_i, f_n), n after task i was learned.

    ``courses`` are those of the earlier tasks, without the test right after learning (the minimum is over the iterations
    that follow it). NaN without an earlier task, or where one has no test. Returns ``[…]``.
    """
    if not courses:
        return np.asarray(np.nan)
    lowest = [np.min(course, axis=0) if len(course) else np.full(np.shape(course)[1:], np.nan) for course in courses]
    return np.asarray(np.mean(lowest, axis=0))


def wc_acc(current: Array, courses: Sequence[Array]) -> Array:
    """Worst-case accuracy (De Lange et al. 2023, eq. 3): 1/k A(E_k, f) + (1 − 1/k) min-ACC, k tasks so far.

    ``current [...]`` is the accuracy on the task learned last; with one task it is the score.
    """
    k = len(courses) + 1
    now = np.asarray(current, dtype=float)
    return now if k == 1 else np.asarray(now / k + (1 - 1 / k) * min_acc(courses))


def windowed_forgetting(courses: Sequence[Array], window: int) -> Array:
    """Windowed forgetting WF^Δ (De Lange et al. 2023): the largest drop within ``window`` tests in a row, mean over tasks.

    For a task max(0, max_{a<b<a+Δ} (A_a − A_b)), 0 with one test alone, as in the authors' released code. ``courses`` begin
    before the first batch of the task itself. NaN without a course. Returns ``[…]``.
    """
    return _windowed(courses, window, -1.0)


def windowed_plasticity(courses: Sequence[Array], window: int) -> Array:
    """Windowed plasticity WP^Δ (De Lange et al. 2023): the largest gain within ``window`` tests in a row, mean over tasks.

    For a task max(0, max_{a<b<a+Δ} (A_b − A_a)), with courses as for `windowed_forgetting`. (In the last window of a course
    the released code passes over gains from a test that is lower than one before it there; the paper does not.)
    """
    return _windowed(courses, window, 1.0)


def _windowed(courses: Sequence[Array], window: int, sign: float) -> Array:
    found = []
    for course in courses:
        values = np.asarray(course, dtype=float)
        gains = [sign * (values[lag:] - values[:-lag]) for lag in range(1, min(window, len(values)))]
        found.append(np.max(np.concatenate([np.zeros((1, *values.shape[1:])), *gains]), axis=0))
    return np.asarray(np.mean(found, axis=0)) if found else np.asarray(np.nan)
