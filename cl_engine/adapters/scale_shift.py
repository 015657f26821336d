"""A scale and a shift of each output of a net's layers, put into their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.masks.layout import Layout, bias_of, maskable, unit_dim
from cl_engine.nn.net import Net, Params

SCALE, SHIFT = "/scale", "/shift"


class ScaleShift(Adapter):
    """A scale and a shift of every output of linear and convolution layers (SSF; Lian et al. 2022; Mudrakarta et al. 2019).

    They amount to other weights and biases of these layers, and cost no time. A layer without a bias has no shift.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> ScaleShift(net).layout.shapes
    {'1/scale': (6,), '1/shift': (6,)}

    Attributes:
        layers: what has a scale: layers, or of attention and recurrent layers each weight.
    """

    def __init__(self, net: Net, names: Sequence[str] | None = None) -> None:
        """Find the outputs that are scaled: those of these weights; None: of all that can be."""
        self._net = net
        self._weights = {_stem(name): name for name in (maskable(net) if names is None else names)}
        self.layers = list(self._weights)
        self._dims = {s: unit_dim(net, s) if w.endswith(".weight") else 0 for s, w in self._weights.items()}
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, weight in self._weights.items():
            units = (net.shapes[weight][self._dims[layer]],)
            shapes |= {layer + SCALE: units}
            shapes |= {layer + SHIFT: units} if bias_of(weight) in net.shapes else {}
        self.layout = Layout(shapes)

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return scales of one and shifts of zero."""
        return {
            name: torch.full((len(seeds), *shape), float(name.endswith(SCALE)), device=self._net.device)
            for name, shape in self.layout.shapes.items()
        }

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights and biases of the scaled layers, of one seed or of all."""
        changed: Params = {}
        for layer, name in self._weights.items():
            scale, dim, weight, bias = own[layer + SCALE], self._dims[layer], base[name], bias_of(name)
            size = [*scale.shape[:-1], *[1] * dim, scale.shape[-1], *[1] * (weight.ndim - scale.ndim - dim)]
            changed[name] = weight * scale.reshape(size)
            if layer + SHIFT in own:
                changed[bias] = base[bias] * scale + own[layer + SHIFT]
        return changed


def _stem(weight: str) -> str:
    """Return what an adapter calls a weight: the layer that has it, or of several of a layer the weight itself."""
    return weight.removesuffix(".weight")
