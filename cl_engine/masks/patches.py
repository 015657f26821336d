"""Model patches: small sets of weights that turn one network into another task's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.masks.layout import Layout, bias_of, maskable, unit_dim
from cl_engine.masks.norms import TaskNorms
from cl_engine.nn.front import front_of
from cl_engine.nn.net import Net, Params

Kind = Literal["scale_bias", "depthwise", "both", "front"]
SCALE, SHIFT = "/scale", "/shift"


class PatchParts:
    """The weights of a patch: normalisation, or inserted scales and shifts; depthwise kernels; all of the net's front.

    A net without normalisation layers gets a scale and a shift for every output of its linear and convolution layers,
    which amount to other weights and biases of these layers. A patch of the front (the part of the module so called) leaves
    all behind it as it is, statistics too.

    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), (1, 2, 2))
    >>> PatchParts(net, "scale_bias").norms.layout.size
    24

    Attributes:
        norms: the part that is normalisation.
        layout: all else that a patch holds.
        statistics: which BatchNorm layers use and update the statistics of the batch: all, or those of these names.
    """

    def __init__(self, net: Net, kind: Kind) -> None:
        """Find what a patch of this kind holds.

        Raises:
            UsageError: if the net has no depthwise convolution, or no front, and ``kind`` asks for its kernels.
        """
        self.statistics: bool | list[str] = True
        self.inserted: list[str] = []
        if kind == "front":
            self._hold_front(net)
            return
        affine, depthwise = kind != "depthwise", kind != "scale_bias"
        self.norms = TaskNorms(net, "affine" if affine else "statistics")
        bare = affine and not self.norms.layout.shapes
        self._weights = {_stem(name): name for name in maskable(net)} if bare else {}
        self.inserted = list(self._weights)
        self._dims = {s: unit_dim(net, s) if w.endswith(".weight") else 0 for s, w in self._weights.items()}
        kernels = [name for name in maskable(net) if _is_depthwise(net.owner(name))] if depthwise else []
        if depthwise and not kernels:
            raise UsageError("patch: the net has no depthwise convolution (groups = channels): use kind = 'scale_bias'")
        shapes = {name: net.shapes[name] for name in kernels}
        for layer in self.inserted:
            weight = self._weights[layer]
            units = (net.shapes[weight][self._dims[layer]],)
            shapes |= {layer + SCALE: units}
            shapes |= {layer + SHIFT: units} if bias_of(weight) in net.shapes else {}
        self.layout = Layout(shapes)

    def _hold_front(self, net: Net) -> None:
        front = front_of(net)
        learned = [name for name in front if not net.is_held(name)]
        if not learned:
            raise UsageError(
                "patch: the net has no front that learns: use the net 'resized' with front = 'learned' or 'strided', a net of "
                "your own whose first part is called 'front', or kind = 'scale_bias'"
            )
        self.norms = TaskNorms(net, "affine", among=front)
        self.layout = Layout.of(net, [name for name in learned if name not in self.norms.layout.shapes])
        self.statistics = sorted({name.rpartition(".")[0] for name in front if name in net.updated})

    def identity(self, base: Mapping[str, Tensor]) -> Params:
        """Return the patch ``{name: [S, …]}`` that leaves the net ``base`` as it is."""
        seeds, like = len(next(iter(base.values()))), next(iter(base.values()))
        made: Params = {}
        for name, shape in self.layout.shapes.items():
            if name.endswith((SCALE, SHIFT)):
                made[name] = torch.full((seeds, *shape), float(name.endswith(SCALE)), device=like.device)
            else:
                made[name] = base[name]
        return made

    def applied(self, base: Mapping[str, Tensor], patch: Mapping[str, Tensor]) -> Params:
        """Return the weights of the net that the patch changes, of one seed or of all."""
        changed: Params = {name: patch[name] for name in self.layout.shapes if name in base}
        for layer in self.inserted:
            name, scale, dim = self._weights[layer], patch[layer + SCALE], self._dims[layer]
            weight, bias = base[name], bias_of(name)
            size = [*scale.shape[:-1], *[1] * dim, scale.shape[-1], *[1] * (weight.ndim - scale.ndim - dim)]
            changed[name] = weight * scale.reshape(size)
            if layer + SHIFT in patch:
                changed[bias] = base[bias] * scale + patch[layer + SHIFT]
        return changed


def _stem(weight: str) -> str:
    """Return what a patch calls a weight: the layer that has it, or of several of a layer the weight itself."""
    return weight.removesuffix(".weight")


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels > 1
