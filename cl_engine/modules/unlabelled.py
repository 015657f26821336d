"""Learning from rows without labels: certainty, a teacher, and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.events import StrategyEvent
from cl_engine.nn.net import Net, Params

SMALL = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted(StrategyEvent):
    """How uncertain answers to rows without labels are before and after adaptation: mean entropy in nats, by seed.

    >>> Adapted(step=1, task_id=1, before=(0.9,), after=(0.2,)).after
    (0.2,)
    """

    task_id: int
    before: tuple[float, ...]
    after: tuple[float, ...]


def entropy(chances: Tensor) -> Tensor:
    """Return the entropy of chances ``[N, kinds, …]`` in nats, by row or place ``[N, …]``."""
    return -(chances * chances.clamp_min(SMALL).log()).sum(dim=1)


def information(chances: Tensor) -> Tensor:
    """Return entropy of the mean answer − mean entropy: answers that are sure and of all kinds (Liang, Hu & Feng 2020, eq. 3)."""
    mean = chances.transpose(0, 1).flatten(1).mean(dim=1)
    return entropy(mean.unsqueeze(0))[0] - entropy(chances).mean()


def consistency(student: Tensor, teacher: Tensor, sure: float, shares: Tensor | None = None) -> Tensor:
    """Return the squared difference of chances ``[N, kinds, …]``, where the teacher's greatest is ``sure`` or more.

    French, Mackiewicz & Fisher (2018), after Tarvainen & Valpola (2017); ``shares [N, …]`` weigh rows or places.
    """
    apart = ((student - teacher.detach()) ** 2).sum(dim=1) * (teacher.detach().amax(dim=1) >= sure)
    return (apart if shares is None else apart * shares).mean()


def normalised(net: Net) -> list[str]:
    """Return the names of the running statistics of a net's batch normalisation."""
    found = [name for name in net.shapes if name.endswith(("running_mean", "running_var"))]
    return [name for name in found if isinstance(net.owner(name), nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def statistics_of(net: Net, params: Params, x: Tensor, batch: int, seeds: Sequence[int], key: int) -> Params:
    """Return weights whose running statistics are those of rows ``x [N, …]``: the mean over batches (Li et al. 2016).

    Rows are seen in an order of each seed's own. ``params`` are ``{name: [S, …]}``, and stay as they are.
    """
    names = normalised(net)
    reset = [*names, *(name.rpartition(".")[0] + ".num_batches_tracked" for name in names)]
    found: dict[str, list[Tensor]] = {}
    for place, seed in enumerate(seeds):
        own = {name: tensor[place].clone() for name, tensor in params.items()}
        order = torch.randperm(len(x), generator=rng.tensors(seed, "statistics", key)).to(x.device)
        parts = order.tensor_split(max(1, len(x) // batch))
        total = {name: torch.zeros_like(own[name]) for name in names}
        with rng.ambient(seed, "statistics", key, device=net.device):
            for part in parts:
                for name in reset:
                    own[name].zero_()
                net.one(own, net.laid_out(net.prepare(x[part])), training=True)
                for name in names:
                    total[name] += own[name]
        for name in (
            names
        ):  # from 0, a first batch leaves its own statistic times the momentum, or, where there is none, as it is
            share: float | None = net.owner(name).momentum  # type: ignore[assignment]
            found.setdefault(name, []).append(total[name] / len(parts) / (1.0 if share is None else share))
    return {**params, **{name: torch.stack(each) for name, each in found.items()}}
