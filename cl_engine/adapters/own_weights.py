"""Weights of a task's own in the place of the net's: biases alone, say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.errors import UsageError
from cl_engine.masks.layout import Layout
from cl_engine.nn.head import HEAD_BIAS
from cl_engine.nn.net import Net, Params


class OwnWeights(Adapter):
    """Some weights of a net that are each task's own, and start as the net has them; all others stay as they are.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> biases(net).layout.shapes
    {'1.bias': (6,)}
    """

    def __init__(self, net: Net, names: Sequence[str]) -> None:
        """Take these weights of the net as a task's own."""
        self.layout = Layout.of(net, names)

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return the net's own weights."""
        return {name: base[name] for name in self.layout.shapes}

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the task's weights."""
        return {name: own[name] for name in self.layout.shapes}


def biases(net: Net) -> OwnWeights:
    """Return an adapter of all biases and shifts of a net that learn, but for the head's (BitFit; Ben Zaken et al. 2022).

    Raises:
        UsageError: if there are none.
    """
    names = [name for name in net.shapes if _is_bias(name) and name != HEAD_BIAS and not net.is_held(name)]
    if not names:
        raise UsageError("adapters: the net has no bias before its head that learns: choose another kind of adapter")
    return OwnWeights(net, names)


def _is_bias(name: str) -> bool:
    """Return whether a weight is a bias: ``bias``, ``in_proj_bias`` of attention, ``bias_hh_l0`` of recurrent layers."""
    leaf = name.rpartition(".")[2]
    return leaf.startswith("bias") or leaf.endswith("_bias")
