"""Regenerative regularisation: a pull towards the weights a net began with."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.options import option
from cl_engine.training.upkeep import Upkeep, Weights


class L2Init(Upkeep):
    """L2 Init: weights are pulled towards those that the net began with (Kumar, Marklund, Van Roy 2023).

    The squared distance of all weights and biases to where they began, times a strength, is added to the loss.

    >>> weight = torch.tensor([[1.0, 3.0]])
    >>> L2Init.of(strength=0.5).penalty({("w",): weight}, {("w",): torch.ones(1, 2)})
    tensor([2.])
    """

    strength: float = option(0.01, "factor of the squared distance", ge=0)

    def penalty(self, weights: Weights, start: Weights) -> Tensor | None:
        if not self.strength:
            return None
        return self.strength * torch.stack(
            [(weight - start[path]).square().flatten(1).sum(dim=1) for path, weight in weights.items()]
        ).sum(dim=0)
