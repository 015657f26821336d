"""Judges that tell rows of the source from rows of the target, and what teaches a net that they cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core import rng
from cl_engine.events import StrategyEvent
from cl_engine.modules.adversary import reversed_gradient
from cl_engine.nn.net import Params

SLOPE = 0.2  # of the leaky ReLU below 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainsJudged(StrategyEvent):
    """How often the judge of ``part`` tells source from target at the end of an adaptation, by seed; a half is chance.

    >>> DomainsJudged(step=1, task_id=1, part="features", accuracy=(0.6,)).accuracy
    (0.6,)
    """

    task_id: int
    part: str
    accuracy: tuple[float, ...]


def domain_judge(
    seeds: Sequence[int], read: Sequence[int], hidden: int, device: torch.device, *purpose: str | int
) -> Params:
    """Return an untrained judge ``{name: [S, …]}``: three layers, from what it reads to one number, > 0 for the source.

    Its form follows what is read of a row ``[D, …]``: fully connected for rows ``[D]``; for maps ``[D, h, w]`` a 3 × 3 and two
    1 × 1 convolutions, so that every place is judged (Koga, Miyazaki & Shibasaki 2021).
    """
    found: Params = {}
    sizes = (read[0], hidden, max(1, hidden // 2), 1)
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        kernel = [] if len(read) == 1 else [3, 3] if layer == 0 else [1, 1]
        draws = [rng.tensors(seed, "domain judge", *purpose, layer) for seed in seeds]
        drawn = torch.stack([torch.rand(outputs, inputs, *kernel, generator=draw) for draw in draws])
        found[f"{layer}.weight"] = ((2 * drawn - 1) / math.sqrt(inputs * math.prod(kernel))).to(device)
        found[f"{layer}.bias"] = torch.zeros(len(seeds), outputs, device=device)
    return found


def judged(judge: Mapping[str, Tensor], read: Tensor) -> Tensor:
    """Return what one seed's judge says of rows ``[N]``, or of every place ``[N, h, w]``: > 0 for the source."""
    for layer in range(3):
        weight, bias = judge[f"{layer}.weight"], judge[f"{layer}.bias"]
        read = F.linear(read, weight, bias) if weight.ndim == 2 else F.conv2d(read, weight, bias, padding="same")
        read = read if layer == 2 else F.leaky_relu(read, SLOPE)
    return read[:, 0]


def released_losses(
    judge: Mapping[str, Tensor], source: Tensor, target: Tensor, shares: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the judge's loss, which moves it alone, and the net's, which moves alone what gave the ``target``.

    softplus(−D(s)) + softplus(D(t)) and softplus(−D(t)), as in the release of Koga, Miyazaki & Shibasaki (2021).
    ``shares``, of mean 1, weigh rows or places of the target in the net's loss.
    """
    own = F.softplus(-judged(judge, source.detach())).mean() + F.softplus(judged(judge, target.detach())).mean()
    still = {name: weight.detach() for name, weight in judge.items()}
    return own, _mean(F.softplus(-judged(still, target)), shares)


def reversed_loss(
    judge: Mapping[str, Tensor], source: Tensor, target: Tensor, alpha: Tensor | float, shares: Tensor | None = None
) -> Tensor:
    """Return softplus(−D(s)) + softplus(D(t)), whose gradient reaches what gave both times −α (Ganin et al. 2016)."""
    source, target = (reversed_gradient(read, alpha) for read in (source, target))
    return F.softplus(-judged(judge, source)).mean() + _mean(F.softplus(judged(judge, target)), shares)


def balanced(chances: Tensor, factors: Tensor) -> Tensor:
    """Return the weight of each row or place ``[N, …]``, N / (C N_c) · w_c by the likeliest of C kinds, scaled to a mean of 1.

    So kinds count alike, but for the factors ``w [C]``, though most places are background (``norm_P`` of the release of
    Koga, Miyazaki & Shibasaki 2021, where the mean is not kept at 1).
    """
    kinds = chances.shape[1]
    places = torch.arange(kinds, device=chances.device).reshape(-1, *[1] * (chances.ndim - 2))
    of_kind = (chances.detach().argmax(dim=1, keepdim=True) == places).to(chances.dtype)
    count = of_kind.transpose(0, 1).flatten(1).sum(dim=1)
    weight = factors * (count > 0) / count.clamp_min(1)
    found = (of_kind * weight.reshape(places.shape)).sum(dim=1)
    return found / found.mean()


def told_apart(judge: Mapping[str, Tensor], source: Tensor, target: Tensor) -> float:
    """Return the share of rows or places that one seed's judge names rightly, those of source and target counting alike."""
    right = ((judged(judge, source) > 0).double().mean() + (judged(judge, target) <= 0).double().mean()) / 2
    return float(right)


def _mean(losses: Tensor, shares: Tensor | None) -> Tensor:
    """Return the mean of losses of rows or places, each with its share, that of a row holding for all its places."""
    if shares is None:
        return losses.mean()
    return (losses * shares.reshape(shares.shape + (1,) * (losses.ndim - shares.ndim))).mean()
