"""Calibrated partial resets: every unit goes back a little to where it could have begun, the more the less it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.options import option
from cl_engine.training.step_upkeep import LEAST, UnitUpkeep, first_steps
from cl_engine.training.unit_layers import MEANING, Layer, NewWeights, mean_over
from cl_engine.training.upkeep import Draws

Curve = Literal["sigmoid", "exp", "softplus", "linear"]
CURVES: Mapping[Curve, Callable[[Tensor], Tensor]] = {  # of sharpness · (utility − middle)
    "sigmoid": lambda x: (2 * torch.sigmoid(-x)).clamp(max=1),
    "exp": lambda x: torch.exp(-x).clamp(max=1),
    "softplus": lambda x: (F.softplus(-x) / math.log(2)).clamp(max=1),
    "linear": lambda x: (1 - x).clamp(0, 1),
}


class Cpr(UnitUpkeep):
    """CPR, calibrated partial resets: units are mixed with new ones, the more the smaller their gradients are.

    The utility of a unit is a running mean of its mean |gradient| over that of its layer. After every ``period``-th
    step a unit goes the share r = ρ · min(1, 2 σ(−16 (u − 1))) of the way to newly drawn incoming weights, and its
    outgoing weights are scaled by 1 − r; biases and what the optimiser remembers stay, and utilities begin again at 1.
    Layers are treated in order. Source: the code of 2026, github.com/LucMc/continual-learning, which resets for the
    first time one step later.

    >>> Cpr.of(rate=0.01, period=100).active
    True
    """

    rate: float = option(0.015, "greatest share of a unit that is new after a reset", ge=0, le=1)
    period: int = option(1000, "steps from one reset to the next; 0: never", ge=0)
    decay: float = option(0.99, "share of a utility that stays after a step", ge=0, lt=1)
    sharpness: float = option(16.0, "how fast the share falls around a utility of the middle", ge=0)
    middle: float = option(1.0, "utility from which on units are changed less, the published threshold", ge=0)
    curve: Curve = option("sigmoid", "how the share falls with utility: sigmoid, exp, softplus or linear")
    init: NewWeights = option("kaiming", MEANING)

    @property
    def active(self) -> bool:
        return self.period > 0 and self.rate > 0

    def first(self, layer: Layer) -> dict[str, Tensor]:
        return {**first_steps(layer), "utility": layer.zeros() + 1}

    def look(self, layer: Layer) -> None:
        layer.count += 1
        size = mean_over(layer.weight.gradient.abs(), axis=1)
        score = size / (size.mean(dim=1, keepdim=True) + LEAST)
        layer.memory["utility"].mul_(self.decay).add_(score, alpha=1 - self.decay)

    def change(self, layer: Layer, draws: Draws) -> None:
        if layer.count % self.period:
            return
        utility, weight = layer.memory["utility"], layer.weight.value
        share = self.rate * CURVES[self.curve](self.sharpness * (utility - self.middle))
        fresh = draws.uniform(weight) * layer.bound(self.init)
        rows = share.reshape(*share.shape, *[1] * (weight.ndim - 2))
        weight.copy_((1 - rows) * weight + rows * fresh)
        for reader in layer.readers:
            inputs = 1 - reader.of_inputs(share)
            reader.weight.value.mul_(inputs.reshape(len(inputs), 1, -1, *[1] * (reader.weight.value.ndim - 3)))
        utility.fill_(1)
