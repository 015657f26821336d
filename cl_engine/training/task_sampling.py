"""Which task to practise how much, by losses of held-out rows: shares ``p [T]`` that sum to 1.

A task with a share p of T tasks counts T p times in the loss, which is in expectation what drawing its rows more often comes
to; rows stay the same for all seeds. Every number is of tasks in any order, and the shares come in that order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Rule = Literal["uniform", "loss", "progress", "classes", "error"]
SHARPNESS = 2.0  # of the exponential in losses
LEAST = 1e-6  # that a reference is taken for: what no net loses anything on has no share by it


def by_loss(losses: Tensor, references: Tensor) -> Tensor:
    """Return exp(2 L / L₀), but for a factor, of losses and those they are measured by, ``[T]`` each."""
    ratios = losses / references.clamp_min(LEAST)
    return (SHARPNESS * (ratios - ratios.max())).exp()


def by_progress(losses: Tensor, references: Tensor, last: Tensor) -> Tensor:
    """Return by how much of their references losses have fallen since they were ``last``; 0 where they rose."""
    return ((last - losses) / references.clamp_min(LEAST)).clamp_min(0)


def by_error(errors: Tensor, references: Tensor) -> Tensor:
    """Return how far shares of rows answered wrong are above those they are measured by; 0 where they are below."""
    return (errors - references).clamp_min(0)


def by_classes(classes: Tensor) -> Tensor:
    """Return ln C of numbers of classes: what a guess loses."""
    return classes.log()


def shares(worth: Tensor, floor: float, known: Tensor | None = None) -> Tensor:
    """Return shares ``p [T]`` in proportion to what practice of each task is ``worth [T]``, and of at least ``floor``.

    All are alike where nothing is worth anything, or there are more tasks than such floors. Tasks that are not ``known [T]``
    have no share.
    """
    there = torch.ones_like(worth) if known is None else known.to(worth.dtype)
    count = there.sum().clamp_min(1)
    held = (floor * count).clamp_max(1)  # by the floors together
    total = (worth * there).sum()
    alike = there / count
    free = torch.where(total > 0, worth * there / total.clamp_min(torch.finfo(worth.dtype).tiny), alike)
    return held * alike + (1 - held) * free
