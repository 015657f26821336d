"""What training remembers of each weight from one fit to the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cl_engine.core.tree import Path, Tree, leaves_with_path, unflatten

LEFT = "left"  # a number for each seed that tells what a weight was when the fit was over


class WeightMemory:
    """Tensors that are remembered of each weight, for the next fit to go on with.

    A weight's part is taken up where a fit begins with the weight as the fit before left it, bit for bit, and wants what is of
    the same kind: the body of a net that goes on learning has its past, the new head of the next task has none.

    >>> WeightMemory().state
    {}

    Attributes:
        state: ``kind``, a number for what it is, and ``of``, a tree of tensors ``[S, …]`` by the weight's path and the name of
            what is remembered; empty: nothing.
    """

    def __init__(self, state: Tree | None = None) -> None:
        self.state: Tree = state or {}

    def found(self, params: Tree, kind: int) -> dict[Path, dict[str, Tensor]]:
        """Return what is remembered of those weights among ``params`` that are as they were left, by path and name."""
        if self.state.get("kind") != kind:
            return {}
        leaves = dict(leaves_with_path(params))
        return {
            path: {name: value for name, value in own.items() if name != LEFT}
            for path, own in by_weight(self.state["of"]).items()
            if path in leaves and torch.equal(fingerprints(leaves[path]), own[LEFT].to(leaves[path].device))
        }

    def put(self, of: Tree, kind: int, trained: Tree) -> None:
        """Keep what is to be remembered, with what tells the ``trained`` weights, as the fit returns them, from others."""
        leaves, pairs = dict(leaves_with_path(trained)), dict(leaves_with_path(of))
        told = {(*path, LEFT): fingerprints(leaves[path]) for path in dict.fromkeys(path[:-1] for path in pairs)}
        self.state = {"kind": kind, "of": unflatten(pairs | told)} if pairs else {}


def by_weight(of: Mapping[str, Tree]) -> dict[Path, dict[str, Tensor]]:
    """Return a tree of what is remembered by the weight's path and its own name."""
    found: dict[Path, dict[str, Tensor]] = {}
    for path, value in leaves_with_path(of):
        found.setdefault(path[:-1], {})[path[-1]] = value
    return found


def fingerprints(weight: Tensor) -> Tensor:
    """Return a number for each row of a weight ``[S, …]``, int64, that is another one if a single bit is."""
    bits = weight.detach().float().contiguous().flatten(1).view(torch.int32).to(torch.int64)
    places = torch.arange(1, bits.shape[1] + 1, device=bits.device) * 2 + 1  # odd: no bit is multiplied away
    return (bits * places).sum(dim=1)
