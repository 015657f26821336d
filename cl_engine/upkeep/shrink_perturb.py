"""Shrink and perturb: weights that are made smaller and noisy after every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core.tree import Path
from cl_engine.options import option
from cl_engine.training.upkeep import Draws, Upkeep, Weights

UNIFORM, NORMAL = 1.8, 3.0  # kurtosis
BETWEEN = (UNIFORM + NORMAL) / 2


class ShrinkPerturb(Upkeep):
    """Shrink and perturb: every weight is scaled down and gets noise after every step (Ash & Adams 2020).

    Two forms are published for streams of tasks. ``noise = "initial"``: noise is drawn as the layer's starting weights were
    (Kumar et al. 2023, θ ← p θ + σ ε, with ``shrink`` = 1 − p). ``noise = "normal"``: it is normal, and shrinking is left to
    ``train.weight_decay`` (Dohare et al. 2024).

    What a layer's weights were drawn from is told by their mean and deviation, and by whether those of the net are nearer to
    uniform or to normal ones (kurtosis). What all began with one value, as biases of zero and scales of normalisation do, gets no
    noise.

    >>> upkeep, weight = ShrinkPerturb.of(shrink=0.5, noise_scale=0.0), torch.ones(1, 4)
    >>> upkeep.after_step({("w",): weight}, upkeep.begin({("w",): weight.clone()}), Draws([]))
    >>> weight
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """

    shrink: float = option(1e-4, "share of each weight that is taken away after a step", ge=0, le=1)
    noise_scale: float = option(1e-2, "factor of the noise", ge=0)
    noise: Literal["initial", "normal"] = option(
        "initial", "what noise is drawn from: as weights were at first, or normal"
    )

    def begin(self, start: Weights) -> Mapping[Path, Drawn]:
        if self.noise == "normal":
            return {
                path: Drawn(torch.zeros_like(weight), torch.ones_like(weight), False) for path, weight in start.items()
            }
        return drawn_from(start)

    def after_step(self, weights: Weights, start: Mapping[Path, Drawn], draws: Draws) -> None:
        for path, weight in weights.items():
            if self.shrink:
                weight.mul_(1 - self.shrink)
            if self.noise_scale:
                weight.add_(start[path].numbers(weight, draws), alpha=self.noise_scale)


@dataclass(frozen=True)
class Drawn:
    """A distribution for each seed: its mean and deviation ``[S, 1, …]``, and whether it is uniform or normal.

    >>> Drawn(torch.ones(1, 1), torch.zeros(1, 1), uniform=True).numbers(torch.zeros(1, 2), Draws([torch.Generator()]))
    tensor([[1., 1.]])
    """

    mean: Tensor
    deviation: Tensor
    uniform: bool

    def numbers(self, like: Tensor, draws: Draws) -> Tensor:
        """Return numbers from it in the shape of a tensor ``[S, …]``."""
        noise = draws.uniform(like).mul_(3**0.5) if self.uniform else draws.normal(like)
        return noise.mul_(self.deviation).add_(self.mean)


def drawn_from(start: Weights) -> dict[Path, Drawn]:
    """Return the distributions that starting weights ``[S, …]`` seem to be drawn from: all uniform, or all normal.

    Which of the two is told by the kurtosis of all of them together, as a layer's few biases would not tell.
    """
    found, scaled = {}, []
    for path, weight in start.items():
        flat = weight.flatten(1).double()
        mean = flat.mean(dim=1, keepdim=True)
        deviation = (flat - mean).square().mean(dim=1, keepdim=True).sqrt()
        mean = torch.where(
            deviation > 0, mean, 0.0
        )  # else scales of normalisation, all 1 at first, would grow step by step
        scaled.append(((flat - mean) / deviation)[:, deviation.squeeze(1).all().expand(flat.shape[1])])
        size = [len(flat), *[1] * (weight.ndim - 1)]
        found[path] = mean.reshape(size).to(weight.dtype), deviation.reshape(size).to(weight.dtype)
    kurtosis = torch.cat(scaled, dim=1).pow(4).mean() if scaled else torch.tensor(0.0)
    return {path: Drawn(*parts, uniform=bool(kurtosis < BETWEEN)) for path, parts in found.items()}
