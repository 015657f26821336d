"""Soft masks: a factor of a task's own for every weight."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cl_engine.adapters.per_weight import PerWeight
from cl_engine.nn.net import Params


class SoftMask(PerWeight):
    """A real-valued mask: each weight of linear, convolution, attention and recurrent layers times a factor of the task's own.

    Hard masks (Mallya et al. 2018) have the factors 0 and 1; these start at 1 and go where gradients lead (Kang et al. 2024).
    A task keeps 32 bits a weight, as much as a net of its own.

    >>> from torch import nn
    >>> from cl_engine.nn.net import Net
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> SoftMask(net).layout.shapes
    {'1.weight': (6, 4)}
    """

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights times their factors, of one seed or of all."""
        return {name: base[name] * own[name] for name in self.layout.shapes}
