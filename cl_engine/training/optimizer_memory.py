"""What optimisers remember from one fit to the next: momentum, second moments, counts of steps."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, unflatten
from cl_engine.training.weight_memory import WeightMemory


class OptimizerMemory(WeightMemory):
    """What the optimisers of a fit remember of each weight, for the next fit to go on from (``train.keep_optimizer``).

    >>> OptimizerMemory().state
    {}
    """

    def of_weights(self, params: Tree, optimizers: Sequence[torch.optim.Optimizer]) -> dict[Path, dict[str, Tensor]]:
        """Return what is remembered of those weights among ``params`` that are as they were left, by path and name."""
        return self.found(params, kind_of(optimizers))

    def keep(self, of: Tree, optimizers: Sequence[torch.optim.Optimizer], trained: Tree) -> None:
        """Keep what was `remembered`, with what tells the ``trained`` weights, as the fit returns them, from others."""
        self.put(of, kind_of(optimizers), trained)


def kind_of(optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Return a number that tells the kinds of optimisers, in their order, from others."""
    return zlib.crc32(",".join(type(optimizer).__name__ for optimizer in optimizers).encode())


def remembered(weights: Mapping[Path, Tensor], optimizers: Sequence[torch.optim.Optimizer], together: bool) -> Tree:
    """Return what optimisers remember of weights, each with the axis of seeds in front; ``together``: weights have it."""
    found: dict[Path, Any] = {}
    for path, weight in weights.items():
        own: dict[str, Any] = next((o.state[weight] for o in optimizers if o.state.get(weight)), {})
        for name, value in own.items():
            if isinstance(value, Tensor):
                whole = value.detach().contiguous() if together and value.ndim else value.detach().unsqueeze(0)
                found[*path, name] = whole.expand(len(weight) if together else 1, *whole.shape[1:]).clone()
    return unflatten(found)
