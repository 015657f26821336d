"""Families of tasks: those that the same sources serve."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage

Array = np.ndarray


def linked(affinities: Array) -> Array:
    """Return the tree of tasks by average linkage of log affinities, as SciPy's linkage matrix ``[T − 1, 4]``.

    Two tasks are alike where the same sources serve both better than they serve tasks on average: the distance is 1 less the
    correlation of their log affinities, from which the mean of each source over all tasks is taken away (a source that serves all
    tells them not apart). What was not probed counts as that mean.

    Args:
        affinities: of sources for targets ``[sources, targets]``, for two targets or more.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.asarray(affinities, dtype=float)).T
    logs[~np.isfinite(logs)] = np.nan
    known = np.isfinite(logs)
    means = np.where(known, logs, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    apart = np.where(known, logs - means, 0)
    apart -= apart.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(apart, axis=1)
    products, scale = apart @ apart.T, norms[:, None] * norms
    # of a task that all sources serve alike nothing is known: it is as far from others as what does not correlate
    distance = 1 - np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-12)
    upper = np.triu_indices(len(distance), 1)
    return np.asarray(linkage(np.maximum(distance[upper], 0), "average"))


def order_of(tree: Array) -> list[int]:
    """Return the tasks in the order of the tree's leaves."""
    return [int(leaf) for leaf in leaves_list(tree)]


def families(tree: Array, count: int) -> list[list[int]]:
    """Return the tasks in as many families, in the order of the leaves."""
    of = fcluster(tree, count, "maxclust")
    found: dict[int, list[int]] = {}
    for leaf in order_of(tree):
        found.setdefault(int(of[leaf]), []).append(leaf)
    return list(found.values())
