"""An adversary that names the task from the gradient of its loss, and what it teaches the features that are shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core import rng
from cl_engine.events import StrategyEvent
from cl_engine.masks.thresholds import straight_through
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.net import Params


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScored(StrategyEvent):
    """How often the adversary names a task from gradients of its loss at the end of training, by seed.

    >>> event = JudgeScored(step=3, task_id=2, tasks=4, accuracy=(0.9, 0.8))
    >>> event.accuracy
    (0.9, 0.8)
    """

    task_id: int
    tasks: int
    accuracy: tuple[float, ...]


def judge(seeds: Sequence[int], width: int, tasks: int, device: torch.device) -> Params:
    """Return an untrained judge ``{name: [S, …]}``: two 1 × 1 convolutions, from gradients of ``width`` channels to tasks."""
    found: Params = {}
    for name, size in {"inside": (width, width), "outside": (tasks, width)}.items():
        draws = [rng.tensors(seed, "judge", name) for seed in seeds]
        drawn = torch.stack([torch.rand(size, generator=draw) for draw in draws])
        found[name] = ((2 * drawn - 1) / math.sqrt(width)).to(device)
        found[f"{name}_bias"] = torch.zeros(len(seeds), size[0], device=device)
    return found


def reversal(progress: Tensor) -> Tensor:
    """Return how strongly gradients are reversed at this share of training: 2 / (1 + exp(−10 p)) − 1 (Ganin et al. 2016)."""
    found: Tensor = 2 / (1 + torch.exp(-10 * progress)) - 1
    return found


def reversed_gradient(x: Tensor, alpha: Tensor | float) -> Tensor:
    """Return ``x``, whose gradient is −α times what reaches it."""
    return straight_through(x.detach(), x, -alpha)


def direction(loss: Tensor, features: Tensor, keep_graph: bool = True) -> Tensor:
    """Return the gradient of a loss at features ``[N, C, …]``, of norm 1 at every place."""
    (gradient,) = torch.autograd.grad(loss, features, create_graph=keep_graph)
    found: Tensor = gradient / (gradient.norm(dim=1, keepdim=True) + 1e-10)
    return found


def named_by(judge: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
    """Return one seed's logits of tasks ``[places, tasks]`` for gradients ``[N, C, …]``."""
    rows = gradient.movedim(1, -1).flatten(0, -2)
    inside = F.relu(linear(rows, judge["inside"], judge["inside_bias"]))
    return linear(inside, judge["outside"], judge["outside_bias"])


def with_adversary(
    judge: Mapping[str, Tensor], loss: Tensor, features: Tensor, task: int, weight: float, alpha: Tensor | float
) -> Tensor:
    """Return (1 − w) · loss + w · CE(judge(reversed gradient of the loss at the features), task) of one seed.

    Maninis, Radosavovic & Kokkinos 2019, §3.3: the judge learns to name the task, what gave the features that it cannot.
    """
    said = named_by(judge, reversed_gradient(direction(loss, features), alpha))
    named = torch.full((len(said),), task, device=said.device)
    return (1 - weight) * loss + weight * F.cross_entropy(said, named)


def told_apart(judge: Mapping[str, Tensor], loss_at: Callable[[Tensor], Tensor], features: Tensor, task: int) -> float:
    """Return the share of places where one seed's judge names the task from the gradient of the loss at the features."""
    features = features.detach().requires_grad_(True)
    said = named_by(judge, direction(loss_at(features), features, keep_graph=False))
    return float((said.argmax(dim=1) == task).double().mean())
