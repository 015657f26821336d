"""Early stopping: the weights that were best on validation rows, seed by seed."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.core.tree import Tree, leaves_with_path, tree_map, unflatten


class EarlyStopping:
    """Keeps, for every seed, the weights of the epoch of greatest validation accuracy, the first if several are equal.

    >>> stopping = EarlyStopping(seeds=1, patience=0)
    >>> stopping.look(torch.tensor([0.9]), {"w": torch.tensor([1.0])})
    >>> stopping.look(torch.tensor([0.8]), {"w": torch.tensor([2.0])})
    >>> stopping.params, stopping.enough
    ({'w': tensor([1.])}, True)

    Attributes:
        params: those weights, tensors ``[S, …]``; None before the first look.
    """

    def __init__(self, seeds: int, patience: int | None) -> None:
        """Begin; ``patience`` is the number of epochs without a better one after which a seed has had enough."""
        self.params: Tree | None = None
        self._patience = patience
        self._accuracy = torch.full((seeds,), -1.0)
        self._waited = torch.zeros(seeds, dtype=torch.int64)

    def look(self, accuracy: Tensor, params: Tree) -> None:
        """Take in the accuracy ``[S]`` of weights ``[S, …]`` after an epoch."""
        accuracy = accuracy.detach().cpu().to(torch.float32)
        better = accuracy > self._accuracy
        self._accuracy = torch.where(better, accuracy, self._accuracy)
        self._waited = torch.where(better, 0, self._waited + 1)
        kept = dict(leaves_with_path(self.params)) if self.params is not None else {}
        found = {}
        for path, leaf in leaves_with_path(params):
            now = leaf.detach()
            mask = better.to(now.device).reshape(-1, *[1] * (now.ndim - 1))
            found[path] = torch.where(mask, now, kept[path]) if path in kept else now.clone()
        self.params = unflatten(found)

    @property
    def enough(self) -> bool:
        """Whether every seed has waited for longer than its patience."""
        return self._patience is not None and bool((self._waited > self._patience).all())

    def state(self) -> Tree:
        """Return what a checkpoint keeps of it."""
        kept = {"accuracy": self._accuracy.clone(), "waited": self._waited.clone()}
        return kept if self.params is None else {**kept, "params": tree_map(Tensor.clone, self.params)}

    def restore(self, state: Tree) -> None:
        """Resume from what `state` returned."""
        self.params, self._accuracy, self._waited = state.get("params"), state["accuracy"].cpu(), state["waited"].cpu()
