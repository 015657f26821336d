"""Bottleneck adapters: a few weights after each module of a net that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.core import rng
from cl_engine.masks.layout import Layout
from cl_engine.nn.division import end_units
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.hooks import Hook, on_units
from cl_engine.nn.net import Net, Params

PARTS = "down", "down_bias", "up", "up_bias"


class Bottleneck(Adapter):
    """Adapters x + W_up relu(W_down x) over the channels of each module's output (Rebuffi et al. 2017; Houlsby et al. 2019).

    W_up starts at zero, so that the net starts as it was. An adapter of C channels and bottleneck r has 2Cr + C + r
    weights.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> Bottleneck(net, bottleneck=2).layout.size  # 2 · 6 · 2 + 6 + 2, and 2 · 5 · 2 + 5 + 2
    59
    """

    def __init__(self, net: Net, bottleneck: int) -> None:
        """Find the outputs that are adapted, and their channels."""
        self._net, self.channels = net, end_units(net)
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, channels in self.channels.items():
            sizes = (bottleneck, channels), (bottleneck,), (channels, bottleneck), (channels,)
            shapes |= {f"{layer}:{part}": size for part, size in zip(PARTS, sizes, strict=True)}
        self.layout = Layout(shapes)

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return adapters that change nothing yet, ``{name: [S, …]}``: W_down is drawn by each seed, the same for every task."""
        found: Params = {}
        for name, shape in self.layout.shapes.items():
            if name.endswith(":down"):
                draws = [rng.tensors(seed, "adapter", name.removesuffix(":down")) for seed in seeds]
                down = [torch.rand(shape, generator=draw) for draw in draws]
                found[name] = 1 / math.sqrt(shape[1]) * (2 * torch.stack(down) - 1)
            else:
                found[name] = torch.zeros(len(seeds), *shape)
        return {name: tensor.to(self._net.device) for name, tensor in found.items()}

    def hooks(self, own: Mapping[str, Tensor]) -> dict[str, Hook]:
        """Return hooks that apply one seed's adapters, for `Net.one`."""
        return {layer: _adapting(*(own[f"{layer}:{part}"] for part in PARTS)) for layer in self.channels}


def _adapting(down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor) -> Hook:
    return on_units(lambda x: x + linear(F.relu(linear(x, down, down_bias)), up, up_bias))
