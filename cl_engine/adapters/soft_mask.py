"""Soft masks: a factor of a task's own for every weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.masks.layout import Layout, some_maskable
from cl_engine.nn.net import Net, Params


class SoftMask(Adapter):
    """A real-valued mask: each weight of linear, convolution, attention and recurrent layers times a factor of the task's own.

    Hard masks (Mallya et al. 2018) have the factors 0 and 1; these start at 1 and go where gradients lead (Kang et al. 2024).
    A task keeps 32 bits a weight, as much as a net of its own.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> SoftMask(net).layout.shapes
    {'1.weight': (6, 4)}
    """

    def __init__(self, net: Net) -> None:
        """Find the weights that are masked.

        Raises:
            UsageError: if there are none.
        """
        self._net = net
        self.layout = Layout.of(net, some_maskable(net, "adapters"))

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return factors of one."""
        shapes, device = self.layout.shapes, self._net.device
        return {name: torch.ones(len(seeds), *shape, device=device) for name, shape in shapes.items()}

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights times their factors, of one seed or of all."""
        return {name: base[name] * own[name] for name in self.layout.shapes}
