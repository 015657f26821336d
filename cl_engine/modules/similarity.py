"""Likeness of frozen nets, by the features they give for the same rows, and of the labels of tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_engine.events import StrategyEvent
from cl_engine.nn.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class NetsCompared(StrategyEvent):
    """The nets of two tasks, or their labels, were compared, by seed; ``part`` says by what (rsa, cka, labels).

    >>> event = NetsCompared(step=3, part="rsa", task_id=0, other=2, value=(0.7, 0.6))
    >>> event.part
    'rsa'
    """

    part: str
    task_id: int
    other: int
    value: tuple[float, ...]


def rsa(features: list[Tensor]) -> np.ndarray:
    """Return the representational similarity ``[T, T]`` of nets, whose features ``[N, d]`` are of the same rows.

    The correlation, over pairs of rows, of 1 − the correlation of the two rows' features (Kriegeskorte et al. 2008).
    """
    above = torch.triu_indices(len(features[0]), len(features[0]), offset=1)
    unlike = [1 - torch.corrcoef(own.double())[above[0], above[1]] for own in features]
    return np.asarray(torch.corrcoef(torch.stack(unlike)).cpu())


def linear_cka(features: list[Tensor]) -> np.ndarray:
    """Return the linear centred kernel alignment ``[T, T]`` of nets (Kornblith et al. 2019, eq. 3)."""
    centred = [own.double() - own.double().mean(dim=0) for own in features]
    grams = torch.stack([(own @ own.T).flatten() for own in centred])
    grams = grams / grams.norm(dim=1, keepdim=True)
    return np.asarray((grams @ grams.T).cpu())


def shared_information(one: np.ndarray, other: np.ndarray) -> float:
    """Return the normalised mutual information of two groupings ``[N]`` of the same rows: 2 I / (H + H′).

    >>> shared_information(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
    1.0
    """
    joint = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(joint, (one, other), 1 / len(one))
    entropies = [_entropy(joint.sum(axis=axis)) for axis in (1, 0)]
    if not sum(entropies):
        return float("nan")  # neither tells anything apart
    return float(2 * (sum(entropies) - _entropy(joint.ravel())) / sum(entropies))


def groups_of(target: Target, y: Tensor) -> np.ndarray:
    """Return labels as groups of rows ``[N]``: classes; of all else the quarters of their first principal component."""
    if y.ndim == 1 and not y.is_floating_point():
        return y.cpu().numpy()
    vectors = target.vectors(y).double()
    centred = vectors - vectors.mean(dim=0)
    along = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]
    bounds = torch.quantile(along, torch.tensor([0.25, 0.5, 0.75], dtype=along.dtype, device=along.device))
    return torch.bucketize(along, bounds, right=True).cpu().numpy()


def _entropy(chances: np.ndarray) -> float:
    some = chances[chances > 0]
    return float(-(some * np.log(some)).sum())
