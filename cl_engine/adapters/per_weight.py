"""Adapters that have a number of a task's own for every weight of a net's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.masks.layout import Layout, some_maskable
from cl_engine.nn.net import Net, Params


class PerWeight(Adapter):
    """A number for each weight of linear, convolution, attention and recurrent layers; a subclass says what it does to it.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> PerWeight(net).layout.shapes
    {'1.weight': (6, 4)}

    Attributes:
        begin: the number that leaves a weight as it is, which a task starts from.
    """

    begin: ClassVar[float] = 1.0

    def __init__(self, net: Net) -> None:
        """Find the weights.

        Raises:
            UsageError: if there are none.
        """
        self._net = net
        self.layout = Layout.of(net, some_maskable(net, "adapters"))

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return the numbers that leave every weight as it is."""
        shapes, device = self.layout.shapes, self._net.device
        return {name: torch.full((len(seeds), *shape), self.begin, device=device) for name, shape in shapes.items()}
