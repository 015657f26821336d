"""Model patches: small sets of weights that turn one network into another task's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from cl_engine.adapters.adapter import Adapter
from cl_engine.adapters.bottleneck import Bottleneck
from cl_engine.adapters.own_weights import OwnWeights, biases
from cl_engine.adapters.scale_shift import ScaleShift
from cl_engine.adapters.soft_mask import SoftMask
from cl_engine.errors import UsageError
from cl_engine.masks.layout import Layout, maskable
from cl_engine.masks.norms import TaskNorms
from cl_engine.nn.front import front_of
from cl_engine.nn.hooks import Hook
from cl_engine.nn.net import Net, Params

Kind = Literal["scale_bias", "depthwise", "both", "front", "bias", "bottleneck", "soft_mask"]


class PatchParts(Adapter):
    """The weights of a patch: normalisation and what stands for it, depthwise kernels, the front, or an adapter.

    A net without normalisation layers gets a scale and a shift for every output of its linear and convolution layers. A patch of
    the front (the part of the module so called) leaves all behind it as it is, statistics too.

    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), (1, 2, 2))
    >>> PatchParts(net, "scale_bias").norms.layout.size
    24

    Attributes:
        parts: the adapters that are all that a patch holds beside `norms`.
    """

    norms: TaskNorms

    def __init__(self, net: Net, kind: Kind, bottleneck: int = 8) -> None:
        """Find what a patch of this kind holds.

        Raises:
            UsageError: if the net has no depthwise convolution, no front or no bias, and ``kind`` asks for these.
        """
        self.norms = TaskNorms(net, "affine" if kind in ("scale_bias", "both") else "statistics")
        self.statistics, self.parts = True, list[Adapter]()
        match kind:
            case "front":
                self.parts = [self._front(net)]
            case "bias":
                self.parts = [biases(net)]
            case "bottleneck":
                self.parts = [Bottleneck(net, bottleneck)]
            case "soft_mask":
                self.parts = [SoftMask(net)]
            case _:
                kernels = [name for name in maskable(net) if _is_depthwise(net.owner(name))]
                if kind != "scale_bias" and not kernels:
                    raise UsageError(
                        "patch: the net has no depthwise convolution (groups = channels): use kind = 'scale_bias'"
                    )
                bare = kind != "depthwise" and not self.norms.layout.shapes
                self.parts = [OwnWeights(net, kernels)] * (kind != "scale_bias") + [ScaleShift(net)] * bare
        self.layout = Layout({name: shape for part in self.parts for name, shape in part.layout.shapes.items()})

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return the patch ``{name: [S, …]}`` that leaves the net ``base`` as it is."""
        return {name: tensor for part in self.parts for name, tensor in part.start(seeds, base).items()}

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights of the net that the patch changes, of one seed or of all."""
        return {name: tensor for part in self.parts for name, tensor in part.applied(base, own).items()}

    def hooks(self, own: Mapping[str, Tensor]) -> dict[str, Hook]:
        """Return what one seed's patch does to the outputs of layers."""
        return {layer: hook for part in self.parts for layer, hook in part.hooks(own).items()}

    def _front(self, net: Net) -> OwnWeights:
        front = front_of(net)
        learned = [name for name in front if not net.is_held(name)]
        if not learned:
            raise UsageError(
                "patch: the net has no front that learns: use the net 'resized' with front = 'learned' or 'strided', a net of "
                "your own whose first part is called 'front', or kind = 'scale_bias'"
            )
        self.norms = TaskNorms(net, "affine", among=front)
        self.statistics = sorted({name.rpartition(".")[0] for name in front if name in net.updated})
        return OwnWeights(net, [name for name in learned if name not in self.norms.layout.shapes])


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels > 1
