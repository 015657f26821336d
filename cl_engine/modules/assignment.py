"""Which set of weights each task uses at each depth, as chances that are learned by natural evolution strategies.

Chances are ``π [T, L, K]`` of tasks, depths and sets; a set that a task may not use has none. An assignment is the set of each
task and depth, ``[T, L]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Use = Literal["own", "shared", "learned"]  # a set for each task, one for all, or what is learned
LEAST = 1e-3  # chance of a set that a task may use


def allowed_jointly(uses: Sequence[Use], tasks: int, sets: int) -> Tensor:
    """Return which sets each of several tasks may use, 0 or 1, ``[T, L, K]``, given how each layer is used."""
    allowed = torch.zeros(tasks, len(uses), max(tasks, sets))
    for depth, use in enumerate(uses):
        if use == "own":
            allowed[:, depth, :tasks] = torch.eye(tasks)
        else:
            allowed[:, depth, : sets if use == "learned" else 1] = 1
    return allowed


def allowed_next(uses: Sequence[Use], held: Tensor, longest: Sequence[int], most: int | None) -> Tensor:
    """Return which sets a new task may use, 0 or 1, ``[S, L, K]``: some of those held, or one new one behind them.

    Args:
        uses: how each layer is used.
        held: how many sets each seed holds of each layer, ``[S, L]``.
        longest: the most that a seed holds of each layer, which is the place of the new one.
        most: sets of a layer from which on there is no new one; None: there always is.
    """
    allowed = torch.zeros(len(held), len(uses), max(longest) + 1, device=held.device)
    for depth, (use, new) in enumerate(zip(uses, longest, strict=True)):
        old = (torch.arange(new, device=held.device) < held[:, depth, None]).float()
        if use == "learned":
            allowed[:, depth, :new] = old
            allowed[:, depth, new] = 1 if most is None else (held[:, depth] < most).float()
        else:
            allowed[:, depth, 0 if use == "shared" else new] = 1
    return allowed


def even(allowed: Tensor) -> Tensor:
    """Return even chances ``[…, K]`` of the sets that are ``allowed […, K]``."""
    ones = allowed.to(torch.float32)
    return ones / ones.sum(dim=-1, keepdim=True)


def drawn(chances: Tensor, numbers: Tensor) -> Tensor:
    """Return assignments ``[J, T, L]`` by ``chances [T, L, K]``, given even ``numbers [J, T, L]`` from 0 to 1."""
    cumulated = chances.detach().cumsum(dim=-1)
    below = numbers.clamp_max(1 - 1e-6) * cumulated[..., -1]  # sums of chances are 1 within rounding
    return (cumulated <= below.unsqueeze(-1)).sum(dim=-1)


def utilities(losses: Tensor) -> Tensor:
    """Return from 1 for the least to −1 for the greatest of J losses ``[J, …]``, by rank; equal ones share theirs."""
    one, other = losses.unsqueeze(1), losses.unsqueeze(0)
    above = (other < one).sum(dim=1) - (other > one).sum(dim=1)
    return -above.to(losses.dtype) / (len(losses) - 1)


def direction(chances: Tensor, chosen: Tensor, losses: Tensor, *, by_task: bool) -> Tensor:
    """Return mean_j u_j (onehot(a_j) − π) ``[T, L, K]``: where a step of natural evolution strategies goes.

    After Prellberg & Kramer 2020, "Learned weight sharing for deep multi-task learning by natural evolution strategy and
    stochastic gradient descent".

    Args:
        chances: π, ``[T, L, K]``.
        chosen: the J assignments a_j, ``[J, T, L]``.
        losses: what each assignment loses on each task, ``[J, T]``.
        by_task: whether assignments are ranked for each task by its own loss; otherwise by the mean over tasks.
    """
    rated = losses if by_task else losses.mean(dim=1, keepdim=True)
    sets = torch.arange(chances.shape[-1], device=chances.device)
    away = (chosen.unsqueeze(-1) == sets).to(chances.dtype) - chances
    return (utilities(rated)[:, :, None, None] * away).mean(dim=0)


def bring_back(chances: Tensor, allowed: Tensor) -> None:
    """Change ``chances […, K]`` in place: those ``allowed […, K]``, 0 or 1, are at least 0.001 and sum to 1, others are 0."""
    count = allowed.sum(dim=-1, keepdim=True)
    least = allowed * (0.5 / count).clamp_max(LEAST)  # of a thousand sets not all can have more
    above = (chances - least).clamp_min(0) * allowed
    chances.copy_(least + above * ((1 - least.sum(dim=-1, keepdim=True)) / above.sum(dim=-1, keepdim=True)))


def entropy(chances: Tensor) -> Tensor:
    """Return the entropy of chances ``[…, K]`` in nats ``[…]``."""
    found: Tensor = torch.special.entr(chances).sum(dim=-1)
    return found


def shared_fairly(sets: Tensor, chances: Tensor, samples: int) -> Tensor:
    """Return sets ``[K, size]`` as they are, whose gradient of a mean loss over T tasks is that of a mean over their users.

    A set's gradient is divided by the expected number of tasks that use it, ``Σ_t chances[t]`` of ``[T, K]``; so one that all
    use learns as shared weights do, and one of a single task as if that were alone. The number is taken to be at least
    1 / ``samples``: a set that few assignments use gets no more than their mean gradient.
    """
    users = chances.detach().sum(dim=0).clamp_min(1 / samples)[: len(sets)]
    fixed = sets.detach()
    return fixed + (sets - fixed) * (len(chances) / users).unsqueeze(1)
