"""Scores as functions of sums over rows, which add up over parts of the rows."""

from __future__ import annotations

import numpy as np

CONSTANT = 1e-12  # of the mean square: less variance is rounding


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole == 0, np.nan, np.asarray(part) / np.asarray(whole))[()]


def number_scores(count: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return scores of ``D`` numbers a row or place, the mean over the numbers, ``[…]`` each.

    Explained variance is 1 − Var(y − ŷ) / Var(y) (as scikit-learn's), its mean over the numbers that vary; NaN where none does.

    Args:
        count: rows or places, ``[…, 1]``.
        sums: of labels, squared labels, errors, squared errors and absolute errors, ``[…, 5 D]``.
    """
    y, squared_y, error, squared_error, absolute_error = (ratio(part, count) for part in np.split(sums, 5, axis=-1))
    spread, missed = squared_y - y**2, squared_error - error**2
    varies = spread > CONSTANT * squared_y
    share = ratio(missed, np.where(varies, spread, 0))
    return {
        "explained_variance": 1 - ratio(np.where(varies, share, 0).sum(axis=-1), varies.sum(axis=-1)),
        "rmse": np.sqrt(squared_error.mean(axis=-1)),
        "mae": absolute_error.mean(axis=-1),
    }


def overlap_scores(both: np.ndarray, answered: np.ndarray, labelled: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean intersection over union and accuracy of places, ``[…]``, from counts of places by class ``[…, C]``.

    The mean is over the classes that occur among labels or answers (Everingham et al. 2010).
    """
    overlap = ratio(both, answered + labelled - both)
    occurs = np.isfinite(overlap)
    mean = ratio(np.where(occurs, overlap, 0).sum(axis=-1), occurs.sum(axis=-1))
    return {"mean_iou": mean, "pixel_accuracy": ratio(both.sum(axis=-1), labelled.sum(axis=-1))}


def average_precision(right: np.ndarray, wrong: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the average precision ``[…]``: the area under precision against recall, by all-point interpolation.

    Precision at a recall is the greatest at this or any greater recall (Everingham et al. 2010). NaN where there are no boxes.

    Args:
        right: answers that found a box, by confidence in equal steps, rising, ``[…, B]``.
        wrong: those that found none, likewise.
        boxes: boxes to be found, ``[…]``.
    """
    found, missed = (np.cumsum(np.flip(part, axis=-1), axis=-1) for part in (right, wrong))
    precision = np.nan_to_num(ratio(found, found + missed))
    at_least = np.flip(np.maximum.accumulate(np.flip(precision, axis=-1), axis=-1), axis=-1)
    gained = np.diff(found, axis=-1, prepend=0)
    return ratio((gained * at_least).sum(axis=-1), boxes)
