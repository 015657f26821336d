"""The contract of upkeep: what keeps a net able to learn on streams of thousands of tasks, step by step."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from cl_engine.core.tree import Path
from cl_engine.options import Configured

Weights = Mapping[Path, Tensor]


class Draws:
    """Random numbers of each seed by itself, for tensors whose first axis is that of the seeds.

    >>> Draws([torch.Generator().manual_seed(0)] * 2).uniform(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = generators

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers from −1 to 1, each as likely, in the shape of a tensor ``[S, …]``."""
        return self._each(like, lambda own, draw: own.uniform_(-1, 1, generator=draw))

    def normal(self, like: Tensor) -> Tensor:
        """Return numbers of the standard normal distribution, in the shape of a tensor ``[S, …]``."""
        return self._each(like, lambda own, draw: own.normal_(generator=draw))

    def rows(self, counts: Sequence[int], like: Tensor) -> Tensor:
        """Return as many rows of each seed as are said, from −1 to 1, in the shape of those of ``like [S, N, …]``, then zeros."""
        found = torch.zeros(len(counts), max(counts), *like.shape[2:])
        for own, count, draw in zip(found, counts, self._generators, strict=True):
            own[:count].uniform_(-1, 1, generator=draw)
        return found.to(like.device)

    def share(self, seed: int) -> float:
        """Return a number from 0 to 1 of a seed, by its place among them, to be looked at in Python."""
        return float(torch.rand((), generator=self._generators[seed]))

    def _each(self, like: Tensor, fill: Any) -> Tensor:
        found = torch.empty(like.shape)
        for own, draw in zip(found, self._generators, strict=True):
            fill(own, draw)
        return found.to(like.device)


class Upkeep(Configured, ABC):
    """Keeps a net able to learn new tasks, by a term of the loss, or by what it does to weights after every step.

    It sees the weights of the net among what a fit trains, by their path, and what each was before the first task: tensors
    ``[S, …]`` with the axis of seeds in front, whose rows have nothing to do with each other. What it does in a step may not
    depend on the values of tensors in Python (``if``, ``.item()``), which would wait for a GPU.

    >>> class Smaller(Upkeep):
    ...     def after_step(self, weights, start, draws):
    ...         for weight in weights.values():
    ...             weight.mul_(0.99)
    >>> weight = torch.ones(1, 2)
    >>> Smaller().after_step({("w",): weight}, {}, Draws([])); weight
    tensor([[0.9900, 0.9900]])
    """

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Return the upkeep with these options.

        Raises:
            UsageError: for options that do not exist or are out of bounds.
        """
        made = cls()
        made.configure(options, "train.upkeep")
        return made

    @property
    def active(self) -> bool:
        """Whether it does anything at all, with its options; the default says yes."""
        return True

    def begin(self, start: Weights) -> Any:
        """Return what `penalty` and `after_step` are given about the weights before the first task; the default: these."""
        return start

    def penalty(self, weights: Weights, start: Any) -> Tensor | None:
        """Return what is added to the loss of each seed ``[S]``; None: nothing."""
        return None

    def after_step(self, weights: Weights, start: Any, draws: Draws) -> None:
        """Change weights in place, after a step of the optimiser; the default leaves them as they are."""
        return
