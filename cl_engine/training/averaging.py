"""A moving average of weights, which answers in their place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, leaves_with_path, unflatten


class AveragedWeights:
    """The exponential moving average of the weights of a fit, step by step (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    Averaged is what a gradient reaches. What a loss keeps among what is fitted for its own accounts, and changes in place, is as
    it is; so are buffers. The average begins with the weights after the first step, as that of
    `torch.optim.swa_utils.AveragedModel`.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> averages = AveragedWeights({("w",): weight}, decay=0.9)
    >>> for value in (1.0, 2.0):
    ...     weight.grad = torch.ones(2)
    ...     averages.reach()
    ...     _ = weight.data.fill_(value)
    ...     averages.update()
    >>> averages.of({"w": weight})
    {'w': tensor([1.1000, 1.1000])}
    """

    def __init__(self, weights: Mapping[Path, Tensor], decay: float) -> None:
        """Begin with weights, which steps change in place."""
        self._weights, self._decay, self._steps = weights, decay, 0
        self.held = {path: weight.detach().clone() for path, weight in weights.items()}
        self._reached: set[Path] = set()

    def reach(self) -> None:
        """Note which weights have a gradient, before a step."""
        self._reached |= {path for path, weight in self._weights.items() if weight.grad is not None}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        for path, held in self.held.items():
            if self._steps:
                held.lerp_(self._weights[path], 1 - self._decay)
            else:
                held.copy_(self._weights[path])
        self._steps += 1

    def of(self, params: Tree) -> Tree:
        """Return a tree with the averages in the place of the weights."""
        return unflatten(
            {path: self.held[path] if path in self._reached else leaf for path, leaf in leaves_with_path(params)}
        )

    def state(self) -> Tree:
        """Return what a checkpoint keeps of it."""
        reached = [int(path in self._reached) for path in self.held]
        held = unflatten({path: leaf.clone(memory_format=torch.contiguous_format) for path, leaf in self.held.items()})
        return {"steps": self._steps, "reached": reached, "held": held}

    def restore(self, state: Tree) -> None:
        """Go on from what `state` returned, of weights of the same names."""
        saved = dict(leaves_with_path(state["held"]))
        for path, held in self.held.items():
            held.copy_(saved[path])
        self._steps = state["steps"]
        self._reached = {path for path, reached in zip(self.held, state["reached"], strict=True) if reached}
