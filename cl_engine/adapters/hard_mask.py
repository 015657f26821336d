"""Hard masks: of every weight, whether a task has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.masks.layout import Layout, some_maskable
from cl_engine.masks.thresholds import binary, straight_through
from cl_engine.nn.net import Net, Params

SCORE_INIT, THRESHOLD = 1e-2, 5e-3  # of the published code


class HardMask(Adapter):
    """A binary mask of the weights of a net's layers, by a score of each (Piggyback; Mallya, Davis & Lazebnik 2018).

    Scores start above the threshold, and are learned through it by the straight-through estimator. Learned ones settle on two
    values, as far above the threshold as below.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> HardMask(net).layout.shapes
    {'1.weight': (6, 4)}
    """

    way = SCORE_INIT - THRESHOLD

    def __init__(self, net: Net) -> None:
        """Find the weights that are masked.

        Raises:
            UsageError: if there are none.
        """
        self._net = net
        self.layout = Layout.of(net, some_maskable(net, "adapters"))

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return scores that leave every weight on."""
        shapes, device = self.layout.shapes, self._net.device
        return {name: torch.full((len(seeds), *shape), SCORE_INIT, device=device) for name, shape in shapes.items()}

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights whose scores are above the threshold, and zeros for the others, of one seed or of all."""
        return {
            name: base[name] * straight_through(binary(own[name], THRESHOLD), own[name]) for name in self.layout.shapes
        }

    def settled(self, own: Mapping[str, Tensor]) -> Params:
        """Return scores of two values that give the same mask."""
        return {name: THRESHOLD + self.way * (2 * binary(score, THRESHOLD) - 1) for name, score in own.items()}
