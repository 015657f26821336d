"""Early stopping: the weights that were best on validation rows, seed by seed, and rates that follow these rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cl_engine.core.tree import Tree, leaves_with_path, tree_map, unflatten


@dataclass(frozen=True)
class Plateau:
    """A rule for the learning rate: divided by ``factor`` after ``patience`` epochs without a better validation result.

    Training ends when the rate has fallen below ``least``.

    >>> Plateau(patience=5, factor=3.0, least=1e-4).factor
    3.0
    """

    patience: int
    factor: float
    least: float


class EarlyStopping:
    """Keeps, for every seed, the weights of the epoch of greatest validation score, the first if several are equal.

    >>> stopping = EarlyStopping(seeds=1, patience=0)
    >>> stopping.look(torch.tensor([0.9]), {"w": torch.tensor([1.0])})
    >>> stopping.look(torch.tensor([0.8]), {"w": torch.tensor([2.0])})
    >>> stopping.params, stopping.enough
    ({'w': tensor([1.])}, True)

    Attributes:
        params: those weights, tensors ``[S, …]``; None before the first look.
    """

    def __init__(
        self,
        seeds: int,
        patience: int | None,
        plateau: Plateau | None = None,
        optimizers: Sequence[torch.optim.Optimizer] = (),
        alone: bool = False,
    ) -> None:
        """Begin.

        Args:
            seeds: number of seeds.
            patience: epochs without a better one after which a seed has had enough; None: it never has.
            plateau: how the rates of ``optimizers``, those of a single seed, follow; None: they do not.
            optimizers: what trains.
            alone: whether a seed that has had enough keeps what it has, while others that train as one with it go on.
        """
        self.params: Tree | None = None
        self._patience, self._plateau, self._alone = patience, plateau, alone
        self._accuracy = torch.full((seeds,), -torch.inf)
        self._waited = torch.zeros(seeds, dtype=torch.int64)
        self._rates: list[ReduceLROnPlateau] = []
        if plateau is not None:  # torch's rule waits for one epoch more than it is told
            factor, waits = 1 / plateau.factor, plateau.patience - 1
            self._rates = [
                ReduceLROnPlateau(optimizer, "max", factor, waits, threshold=0.0, eps=0.0) for optimizer in optimizers
            ]

    def look(self, score: Tensor, params: Tree) -> None:
        """Take in the score ``[S]`` of weights ``[S, …]`` after an epoch."""
        score = score.detach().cpu().to(torch.float32)
        for rate in self._rates:
            rate.step(float(score))
        better = score > self._accuracy
        if self._alone and self._patience is not None:
            better &= self._waited <= self._patience
        self._accuracy = torch.where(better, score, self._accuracy)
        self._waited = torch.where(better, 0, self._waited + 1)
        kept = dict(leaves_with_path(self.params)) if self.params is not None else {}
        found = {}
        for path, leaf in leaves_with_path(params):
            now = leaf.detach()
            found[path] = where_seeds(better.to(now.device), now, kept[path]) if path in kept else now.clone()
        self.params = unflatten(found)

    @property
    def enough(self) -> bool:
        """Whether every seed has waited for longer than its patience, or the rate has fallen as far as it may."""
        if self._plateau is not None and any(rate.get_last_lr()[0] < self._plateau.least for rate in self._rates):
            return True
        return self._patience is not None and bool((self._waited > self._patience).all())

    def state(self) -> Tree:
        """Return what a checkpoint keeps of it."""
        kept: Tree = {"accuracy": self._accuracy.clone(), "waited": self._waited.clone()}
        if self._rates:
            kept["rates"] = [rate.state_dict() for rate in self._rates]
        return kept if self.params is None else {**kept, "params": tree_map(Tensor.clone, self.params)}

    def restore(self, state: Tree) -> None:
        """Resume from what `state` returned."""
        self.params, self._accuracy, self._waited = state.get("params"), state["accuracy"].cpu(), state["waited"].cpu()
        for rate, saved in zip(self._rates, state.get("rates", []), strict=True):
            rate.load_state_dict(saved)


def where_seeds(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return ``one [S, …]`` for the seeds ``chosen [S]``, ``other`` for the rest."""
    return torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other)
