"""Some tensors of a net as one row: numbers side by side, or bits packed eight to a byte."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.head import HEAD_WEIGHT
from cl_engine.nn.net import Net, Params

LOG = logging.getLogger("cl_engine")
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")  # of nn.MultiheadAttention


@dataclass(frozen=True)
class Layout:
    """The order and shapes of tensors that stand in one row.

    >>> layout = Layout({"w": (2, 3), "b": (2,)})
    >>> layout.size, layout.packed
    (8, 1)
    """

    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, net: Net, names: Iterable[str]) -> Layout:
        """Return the layout of these tensors of a net."""
        return cls({name: net.shapes[name] for name in names})

    @property
    def sizes(self) -> list[int]:
        """Numbers of elements of the tensors."""
        return [math.prod(shape) for shape in self.shapes.values()]

    @property
    def size(self) -> int:
        """Number of elements of the row."""
        return sum(self.sizes)

    @property
    def packed(self) -> int:
        """Number of bytes that hold one bit for every element."""
        return math.ceil(self.size / 8)

    def row(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return tensors ``{name: [S, …]}`` side by side as ``[S, size]``."""
        parts = [params[name].reshape(len(params[name]), -1) for name in self.shapes]
        return torch.cat(parts, dim=1) if parts else torch.zeros(len(next(iter(params.values()))), 0)

    def named(self, row: Tensor) -> Params:
        """Return the tensors ``{name: [S, …]}`` of a row ``[S, size]``: the inverse of `row`."""
        parts = row.split(self.sizes, dim=1)
        return {
            name: part.reshape(len(row), *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def pack(self, bits: Mapping[str, Tensor]) -> Tensor:
        """Return booleans ``{name: [S, …]}`` as bytes ``[S, packed]``."""
        row = self.row(bits)
        padded = torch.nn.functional.pad(row, (0, 8 * self.packed - self.size)).unflatten(1, (-1, 8))
        packed: Tensor = (padded.to(torch.uint8) << _shifts(row.device)).sum(dim=2, dtype=torch.uint8)
        return packed

    def unpack(self, row: Tensor) -> Params:
        """Return the booleans ``{name: [S, …]}`` of bytes ``[S, packed]``: the inverse of `pack`."""
        return self.named(self._bits(row).to(torch.bool))

    def numbers(self, planes: Tensor) -> Params:
        """Return the integers whose bits were packed one plane after the other, ``[S, planes, packed]``, the lowest first."""
        found = planes.new_zeros(len(planes), self.size, dtype=torch.int64)
        for plane in range(planes.shape[1]):
            found |= self._bits(planes[:, plane]).to(torch.int64) << plane
        return self.named(found)

    def _bits(self, rows: Tensor) -> Tensor:
        return ((rows.unsqueeze(2) >> _shifts(rows.device)) & 1).flatten(1)[:, : self.size]


def maskable(net: Net) -> list[str]:
    """Return the names of the weights of linear and convolution layers, attention and recurrent layers.

    The head's are not among them, nor those that the net has frozen.
    """
    return [name for name in net.shapes if name != HEAD_WEIGHT and is_weight(net, name) and not net.is_held(name)]


def some_maskable(net: Net, strategy: str) -> list[str]:
    """Return the names that `maskable` returns.

    Raises:
        UsageError: if there are none.
    """
    names = maskable(net)
    if not names:
        raise UsageError(
            f"{strategy}: the net has no linear or convolution layer before its head that learns: choose one with hidden "
            "layers"
        )
    rest = [name for name, shape in net.shapes.items() if len(shape) > 1 and name not in {HEAD_WEIGHT, *names}]
    rest = [name for name in rest if not net.is_held(name)]
    if rest:
        _say_what_is_left(strategy, tuple(rest))
    return names


@cache
def _say_what_is_left(strategy: str, names: tuple[str, ...]) -> None:
    """Say once which weights no mask is about."""
    told = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    LOG.warning(
        "%s: masks are of weights of linear, convolution, attention and recurrent layers, not of %s", strategy, told
    )


def is_weight(net: Net, name: str) -> bool:
    """Return whether ``name`` is the weight of a linear or convolution layer, or one of an attention or recurrent layer.

    These have several, as ``in_proj_weight`` and ``weight_hh_l0``. Biases are none.
    """
    owner, leaf = net.owner(name), name.rpartition(".")[2]
    if isinstance(owner, nn.MultiheadAttention):
        return leaf in PROJECTIONS
    if isinstance(owner, nn.RNNBase):
        return leaf.startswith("weight_")
    return name.endswith("weight") and isinstance(owner, nn.Linear | nn.modules.conv._ConvNd)


def bias_of(weight: str) -> str:
    """Return the name that the bias beside a weight would have.

    >>> bias_of("body.0.weight"), bias_of("attention.in_proj_weight")
    ('body.0.bias', 'attention.in_proj_bias')
    """
    layer, dot, leaf = weight.rpartition(".")
    return f"{layer}{dot}{leaf.replace('weight', 'bias')}"


def layers_of(net: Net, names: Iterable[str], what: str) -> list[str]:
    """Return the layers whose weights these are, each of which has one.

    Raises:
        UsageError: if a weight is one of several of an attention or recurrent layer; ``what`` says who needs that it is not.
    """
    found = []
    for name in names:
        if not name.endswith(".weight"):
            raise UsageError(
                f"{what}: the outputs of '{name.rpartition('.')[0]}', an attention or recurrent layer, are not those of one "
                "weight, and cannot be gated: choose a net without, or freeze that layer"
            )
        found.append(name.removesuffix(".weight"))
    return found


def output_axis(net: Net, layer: str) -> int:
    """Return the axis of a layer's weight ``{layer}.weight`` along which outputs are: 1 if it is a transposed convolution."""
    return int(bool(getattr(net.owner(f"{layer}.weight"), "transposed", False)))


def unit_dim(net: Net, layer: str) -> int:
    """Return the axis of a layer's weight ``{layer}.weight`` that counts its outputs.

    Raises:
        UsageError: if none does: that of a transposed convolution in groups counts the outputs of one group.
    """
    axis, owner = output_axis(net, layer), net.owner(f"{layer}.weight")
    if axis and owner.groups != 1:
        raise UsageError(
            f"net.name: the net's '{layer}' is a transposed convolution in {owner.groups} groups, no axis of whose weight counts "
            "its outputs, which this strategy treats one by one: choose groups = 1, or freeze that layer"
        )
    return axis


def units_of(net: Net, layer: str) -> int:
    """Return the number of outputs of a linear or convolution layer."""
    return net.shapes[f"{layer}.weight"][unit_dim(net, layer)]


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
