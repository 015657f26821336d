"""The upkeep of the weights of a seed group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_engine.core.tree import Path
from cl_engine.training.upkeep import Draws, Upkeep


class GroupUpkeep:
    """What keeps the net of a seed group able to learn, told of that group's weights.

    Kept up are weights of the net alone, wherever in the tree they are: those with a name and a shape of its own.

    >>> GroupUpkeep.__name__  # made by `SeedGroup`
    'GroupUpkeep'
    """

    def __init__(self, group: Any, upkeep: Upkeep) -> None:
        self._group, self._upkeep = group, upkeep
        net, seeds = group.job.net, group.seeds
        drawn = net.init(list(dict.fromkeys(seeds)))
        rows = [list(dict.fromkeys(seeds)).index(seed) for seed in seeds]  # candidates have the same seeds again
        self._weights: dict[Path, Tensor] = {}
        start: dict[Path, Tensor] = {}
        for path, leaf in group.weights.items():
            own = leaf if group.rows_axis else leaf.unsqueeze(0)
            if path[-1] in drawn and own.shape[1:] == drawn[path[-1]].shape[1:]:
                self._weights[path], start[path] = leaf, drawn[path[-1]][rows]
        self._start = upkeep.begin(start)

    def start_epoch(self, epoch: int) -> None:
        """Make ready what is drawn from."""
        self._draws = Draws([self._group.generator(seed, "upkeep", epoch) for seed in self._group.seeds])

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of each seed ``[S]``, or ``[]`` of a seed by itself; None: nothing."""
        found = self._upkeep.penalty(self._each(), self._start)
        return found if found is None or self._group.rows_axis else found[0]

    @torch.no_grad()
    def after_step(self) -> None:
        """Change the weights after a step."""
        self._upkeep.after_step(self._each(), self._start, self._draws)

    def _each(self) -> dict[Path, Tensor]:
        if self._group.rows_axis:
            return self._weights
        return {path: leaf.unsqueeze(0) for path, leaf in self._weights.items()}
