"""What optimisers remember from one fit to the next: momentum, second moments, counts of steps."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, leaves_with_path, unflatten
from cl_engine.training.weight_memory import WeightMemory

OF_DEVICE = ("capturable", "fused", "foreach")  # how an optimiser computes: as suits the device at hand


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


def optimizer_state(optimizer: torch.optim.Optimizer, weights: Mapping[Path, Tensor]) -> Tree:
    """Return what an optimiser remembers, as a checkpoint keeps it: lists of numbers, and tensors by the weight's name."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    remembered = {
        (*path, name): value
        for path, weight in weights.items()
        for name, value in optimizer.state.get(weight, {}).items()
    }
    return {"groups": groups, "state": unflatten(remembered)}


def restore_optimizer(optimizer: torch.optim.Optimizer, weights: Mapping[Path, Tensor], state: Tree) -> None:
    """Let an optimiser of weights of the same names remember what `optimizer_state` returned."""
    for group, saved in zip(optimizer.param_groups, state["groups"], strict=True):
        group.update({name: value for name, value in saved.items() if name not in OF_DEVICE})
    own = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    remembered: dict[Path, dict[str, Any]] = {}
    for path, value in leaves_with_path(state.get("state", {})):
        remembered.setdefault(path[:-1], {})[path[-1]] = value
    for path, weight in weights.items():
        if id(weight) in own and path in remembered:
            optimizer.state[weight] = {name: beside(weight, value) for name, value in remembered[path].items()}


def beside(weight: Tensor, value: Any) -> Any:
    """Return what belongs to a weight as fused steps take it for granted: in memory it lies as the weight does."""
    if isinstance(value, Tensor) and value.ndim and value.shape == weight.shape:
        return torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)
    return value
