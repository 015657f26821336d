"""Utility-based perturbed gradient descent: useful weights are protected, the others get noise."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.options import option
from cl_engine.training.step_upkeep import STEPS, Seen, StepUpkeep
from cl_engine.training.upkeep import Draws


class Upgd(StepUpkeep):
    """UPGD: a step is scaled down, with noise in it, where a weight is useful (Elsayed & Mahmood 2024).

    The utility of a weight is a running mean of −gradient · weight, corrected for its start, over the greatest of the
    whole net; u is its sigmoid. With d the direction of the optimiser, w ← (1 − lr · decay) w − factor · lr (d + σ ε)
    (1 − u), ε standard normal. With SGD that is the published UPGD, with Adam AdaUPGD. The paper's experiments have
    factor 1, the authors' README 2.

    ``protecting = false`` (w ← … − factor · lr (d + σ ε (1 − u))) and ``scope = "local"`` (utilities over the norm of
    those that lead to the same output) are the paper's variants.

    >>> Upgd.of(sigma=0.01).factor
    2.0
    """

    sigma: float = option(0.001, "deviation of the noise", ge=0)
    utility_decay: float = option(0.999, "share of a utility that stays after a step, the published β", ge=0, lt=1)
    decay: float = option(0.0, "weight decay, not a part of the gradient", ge=0)
    factor: float = option(2.0, "factor of every step: 2 makes one of middling utility a whole one", gt=0)
    protecting: bool = option(True, "whether utilities scale the step, or the noise alone")
    scope: Literal["global", "local"] = option(
        "global", "what utilities are relative to: the greatest of the net, or the norm of those of the same output"
    )

    @property
    def active(self) -> bool:
        return bool(self.sigma or self.decay or self.protecting or self.factor != 1)

    def begins(self, seen: Seen) -> None:
        for path, weight in seen.weights.items():
            value = weight.value
            steps = torch.zeros(len(value), dtype=torch.int64, device=value.device)
            seen.memory.setdefault(path, {"utility": torch.zeros_like(value), STEPS: steps})
            seen.count[path] = int(seen.memory[path][STEPS].max())

    def before_step(self, seen: Seen) -> None:
        seen.aside = {}
        for path, weight in seen.weights.items():
            utility = seen.memory[path]["utility"]
            utility.mul_(self.utility_decay).addcmul_(weight.gradient, weight.value, value=self.utility_decay - 1)
            seen.aside[path] = weight.value.clone()

    def stepped(self, seen: Seen, draws: Draws) -> None:
        of_all = [seen.memory[path]["utility"].flatten(1).amax(dim=1) for path in seen.weights]
        greatest = torch.stack(of_all).amax(dim=0)
        greatest = torch.where(greatest == 0, 1.0, greatest)  # a head of zeros lets nothing be of use yet
        for path, weight in seen.weights.items():
            before, value, rate = seen.aside[path], weight.value, weight.rate
            seen.count[path] += 1
            free = self._free(seen, path, greatest)
            step = value.sub_(before)  # in place: there are many weights
            noise = draws.normal(value).mul_(-rate * self.sigma) if self.sigma else None
            if self.protecting:
                (step if noise is None else step.add_(noise)).mul_(free)
            elif noise is not None:
                step.addcmul_(noise, free)
            if self.decay:
                before.mul_(1 - rate * self.decay)
            torch.add(before, step, alpha=self.factor, out=value)

    def settle(self, seen: Seen) -> None:
        for path, count in seen.count.items():
            seen.memory[path][STEPS].fill_(count)

    def _free(self, seen: Seen, path: tuple[str, ...], greatest: Tensor) -> Tensor:
        """Return 1 − u of each weight, which is the sigmoid of its negated utility."""
        utility, correction = seen.memory[path]["utility"], 1 - self.utility_decay ** seen.count[path]
        if self.scope == "local":
            return torch.sigmoid_(-F.normalize(utility / correction, dim=-1))
        return torch.sigmoid_(utility * (-1 / (correction * greatest)).reshape(-1, *[1] * (utility.ndim - 1)))
