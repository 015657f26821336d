"""What optimisers remember from one fit to the next: momentum, second moments, counts of steps."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, leaves_with_path, unflatten

LEFT = "left"  # a number for each seed that tells what a weight was when the fit was over


class OptimizerMemory:
    """What the optimisers of a fit remember of each weight, for the next fit to go on from (``train.keep_optimizer``).

    A weight's part is taken up where a fit begins with the weight as the fit before left it, bit for bit, and under optimisers
    of the same kinds: the body of a net that goes on learning has its momentum, the new head of the next task has none.

    >>> OptimizerMemory().state
    {}

    Attributes:
        state: ``kind``, a number for the kinds of optimisers, and ``of``, a tree of tensors ``[S, …]`` by the weight's path and
            the name of what is remembered; empty: nothing.
    """

    def __init__(self, state: Tree | None = None) -> None:
        self.state: Tree = state or {}

    def of_weights(self, params: Tree, optimizers: Sequence[torch.optim.Optimizer]) -> dict[Path, dict[str, Tensor]]:
        """Return what is remembered of those weights among ``params`` that are as they were left, by path and name."""
        if self.state.get("kind") != kind_of(optimizers):
            return {}
        found: dict[Path, dict[str, Tensor]] = {}
        for path, value in leaves_with_path(self.state["of"]):
            found.setdefault(path[:-1], {})[path[-1]] = value
        leaves = dict(leaves_with_path(params))
        return {
            path: {name: value for name, value in own.items() if name != LEFT}
            for path, own in found.items()
            if path in leaves and torch.equal(fingerprints(leaves[path]), own[LEFT].to(leaves[path].device))
        }

    def keep(self, of: Tree, optimizers: Sequence[torch.optim.Optimizer], trained: Tree) -> None:
        """Keep what was `remembered`, with what tells the ``trained`` weights, as the fit returns them, from others."""
        leaves, pairs = dict(leaves_with_path(trained)), dict(leaves_with_path(of))
        told = {(*path, LEFT): fingerprints(leaves[path]) for path in dict.fromkeys(path[:-1] for path in pairs)}
        self.state = {"kind": kind_of(optimizers), "of": unflatten(pairs | told)} if pairs else {}


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


def fingerprints(weight: Tensor) -> Tensor:
    """Return a number for each row of a weight ``[S, …]``, int64, that is another one if a single bit is."""
    bits = weight.detach().float().contiguous().flatten(1).view(torch.int32).to(torch.int64)
    places = torch.arange(1, bits.shape[1] + 1, device=bits.device) * 2 + 1  # odd: no bit is multiplied away
    return (bits * places).sum(dim=1)
