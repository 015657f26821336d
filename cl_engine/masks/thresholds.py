"""Masks from real-valued scores: hard in value, with the gradient of the identity (straight-through)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from cl_engine.training.optimizers import Train
from cl_engine.training.rates import mean_share

PUBLISHED_RATE = 1e-4
# from start to threshold that a score could go in the shortest published run: 30 epochs of Flowers, the rate cut at 15
WAYS = 20.0
Kind = Literal["binary", "ternary", "ternary_symmetric"]


def binary(score: Tensor, threshold: float) -> Tensor:
    """Return 1 above the threshold, else 0 (Mallya et al. 2018, eq. 2)."""
    return (score.detach() - threshold).relu_().sign_()  # a third of the time that a comparison and a cast take


def ternary(score: Tensor, threshold: float) -> Tensor:
    """Return 1 above the threshold, −1 below 0, else 0: the ternary form as released by Mallya et al."""
    return binary(score, threshold) - binary(-score, 0.0)


def ternary_symmetric(score: Tensor, threshold: float) -> Tensor:
    """Return 1 above the threshold, −1 below its negative, else 0."""
    return binary(score, threshold) - binary(-score, threshold)


HARD: Mapping[Kind, Callable[[Tensor, float], Tensor]] = {
    "binary": binary,
    "ternary": ternary,
    "ternary_symmetric": ternary_symmetric,
}


def for_scores(train: Train, optimizer: str, lr: float) -> Train:
    """Return how scores are trained: by an optimiser of their own, the scenario's epochs, and never with weight decay.

    Decay would draw every score below its threshold.
    """
    return train.by(optimizer, lr=lr, weight_decay=0.0)


def rate_of_scores(train: Train, rows: int, way: float) -> float:
    """Return the learning rate of scores: the published one, or more where so few steps would not get a score across ``way``.

    A score can then go from its start to the threshold as often as in the shortest published run.

    Args:
        train: how the experience is trained.
        rows: its number of rows.
        way: distance from start to threshold.
    """
    batches = train.batches(rows)
    return max(PUBLISHED_RATE, WAYS * way / (train.epochs * batches * mean_share(train, batches)))


def straight_through(hard: Tensor, score: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """Return ``hard``, with ``gain`` times the gradient of ``score`` (Bengio et al. 2013)."""
    nothing = score - score.detach()
    return hard + (nothing if isinstance(gain, float) and gain == 1.0 else nothing * gain)


def top_share(score: Tensor, share: float) -> Tensor:
    """Return 1 for the ``share`` of entries of greatest score, at least one, and 0 for the others."""
    flat = score.flatten()
    kept = max(1, round(share * flat.numel()))
    chosen = torch.zeros_like(flat).scatter(0, flat.topk(kept).indices, 1.0)
    return chosen.reshape(score.shape)


def erdos_renyi_density(shape: Sequence[int], factor: float) -> float:
    """Return the share of a layer's weights ``[outputs, inputs, …]`` that an Erdős–Rényi graph keeps (Mocanu et al. 2018).

    It is factor · (inputs + outputs) / weights, at most a half as in the code released for SupSup.
    """
    return min(0.5, factor * (shape[0] + shape[1]) / math.prod(shape))
