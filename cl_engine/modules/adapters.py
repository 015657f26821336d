"""Bottleneck adapters: a few weights after each module of a net that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core import rng
from cl_engine.modules.division import end_units
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.hooks import Hook, on_units
from cl_engine.nn.net import Net, Params


class Adapters:
    """Adapters x + W_up relu(W_down x) over the channels of each module's output (Rebuffi et al. 2017; Houlsby et al. 2019).

    W_up starts at zero, so that the net starts as it was. An adapter of C channels and bottleneck r has 2Cr + C + r
    weights.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> len(Adapters(net, bottleneck=2).start([0])) > 0
    True
    """

    def __init__(self, net: Net, bottleneck: int) -> None:
        """Find the outputs that are adapted, and their channels."""
        self._net, self._bottleneck, self.channels = net, bottleneck, end_units(net)

    def start(self, seeds: Sequence[int]) -> Params:
        """Return adapters that change nothing yet, ``{name: [S, …]}``."""
        found: Params = {}
        for layer, channels in self.channels.items():
            draws = [rng.tensors(seed, "adapter", layer) for seed in seeds]
            bound = 1 / math.sqrt(channels)
            down = [torch.rand(self._bottleneck, channels, generator=draw) for draw in draws]
            found[f"{layer}:down"] = bound * (2 * torch.stack(down) - 1)
            found[f"{layer}:down_bias"] = torch.zeros(len(seeds), self._bottleneck)
            found[f"{layer}:up"] = torch.zeros(len(seeds), channels, self._bottleneck)
            found[f"{layer}:up_bias"] = torch.zeros(len(seeds), channels)
        return {name: tensor.to(self._net.device) for name, tensor in found.items()}

    def hooks(self, params: Mapping[str, Tensor]) -> dict[str, Hook]:
        """Return hooks that apply one seed's adapters, for `Net.one`."""
        return {
            layer: _adapting(*(params[f"{layer}:{part}"] for part in ("down", "down_bias", "up", "up_bias")))
            for layer in self.channels
        }


def _adapting(down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor) -> Hook:
    return on_units(lambda x: x + linear(F.relu(linear(x, down, down_bias)), up, up_bias))
