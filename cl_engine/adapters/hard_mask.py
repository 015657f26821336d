"""Hard masks: of every weight, whether a task has it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cl_engine.adapters.per_weight import PerWeight
from cl_engine.masks.thresholds import binary, straight_through
from cl_engine.nn.net import Params

SCORE_INIT, THRESHOLD = 1e-2, 5e-3  # of the published code


class HardMask(PerWeight):
    """A binary mask of the weights of a net's layers, by a score of each (Piggyback; Mallya, Davis & Lazebnik 2018).

    Scores start above the threshold, and are learned through it by the straight-through estimator. Learned ones settle on two
    values, as far above the threshold as below.

    >>> from torch import nn
    >>> from cl_engine.nn.net import Net
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> HardMask(net).layout.shapes
    {'1.weight': (6, 4)}
    """

    begin = SCORE_INIT
    way = SCORE_INIT - THRESHOLD

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights whose scores are above the threshold, and zeros for the others, of one seed or of all."""
        return {
            name: base[name] * straight_through(binary(own[name], THRESHOLD), own[name]) for name in self.layout.shapes
        }

    def settled(self, own: Mapping[str, Tensor]) -> Params:
        """Return scores of two values that give the same mask."""
        return {name: THRESHOLD + self.way * (2 * binary(score, THRESHOLD) - 1) for name, score in own.items()}
