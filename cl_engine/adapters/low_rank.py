"""Low-rank adapters: what a task adds to a weight is a product of two thin matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from cl_engine.adapters.adapter import Adapter
from cl_engine.core import rng
from cl_engine.errors import UsageError
from cl_engine.masks.layout import Layout, maskable, output_axis
from cl_engine.masks.norms import NormPolicy, TaskNorms
from cl_engine.nn.net import Net, Params

DOWN, UP = ":down", ":up"  # A and B of the paper


@dataclass(frozen=True)
class _Adapted:
    """A weight as a matrix ``[outputs, …]``, and the rank of what is added to it."""

    units: int
    rest: int
    rank: int
    dim: int  # the axis of its outputs


class LowRank(Adapter):
    """Low-rank updates W + α/r · B A of weights of linear, convolution, attention and recurrent layers (LoRA; Hu et al. 2021).

    A weight is a matrix ``[O, I]``, a kernel ``[O, I·h·w]``: A is then a convolution to r channels and B one of 1 × 1. A is drawn
    within ±1/√I, B is zero, so that the net starts as it was. A weight keeps r (O + I) numbers; r is at most the smaller of O and
    I. The head is not among them.

    >>> from torch import nn
    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (1, 2, 2))
    >>> adapter = LowRank(net, rank=2, alpha=4)
    >>> adapter.layout.shapes, adapter.scale
    ({'1.weight:down': (2, 4), '1.weight:up': (6, 2)}, 2.0)

    Attributes:
        scale: α / r, what the product is multiplied by.
    """

    def __init__(
        self,
        net: Net,
        rank: int,
        alpha: float | None = None,
        where: Sequence[str] = ("*",),
        norm: NormPolicy = "frozen",
    ) -> None:
        """Find the weights that are adapted: those whose names fit one of the patterns ``where``.

        Args:
            net: the net.
            rank: rank r of what is added to a weight.
            alpha: α; None: r, so that the product counts as it is.
            where: patterns of names of layers, or of weights, as the shell has them.
            norm: what a task keeps of normalisation layers.

        Raises:
            UsageError: if the net has no weight to adapt, or a pattern fits none.
        """
        self._net, self.scale = net, (rank if alpha is None else alpha) / rank
        self.norms = TaskNorms(net, norm)
        self.statistics = self.norms.tracking
        names = maskable(net)
        if not names:
            raise UsageError(
                "adapters: the net has no linear or convolution layer before its head that learns: choose one with hidden layers"
            )
        called = {name: (name, name.removesuffix(".weight")) for name in names}

        def fits(name: str, pattern: str) -> bool:
            return any(fnmatchcase(each, pattern) for each in called[name])

        if not where:
            raise UsageError("strategy.where: found no pattern, and nothing would be adapted: ['*'] adapts all layers")
        for pattern in where:
            if not any(fits(name, pattern) for name in names):
                raise UsageError(
                    f"strategy.where: '{pattern}' fits no layer of the net that can be adapted; they are "
                    + ", ".join(called[name][1] for name in names)
                )
        self._adapted = {
            name: self._matrix(name, rank) for name in names if any(fits(name, pattern) for pattern in where)
        }
        shapes: dict[str, tuple[int, ...]] = {}
        for name, each in self._adapted.items():
            shapes |= {name + DOWN: (each.rank, each.rest), name + UP: (each.units, each.rank)}
        self.layout = Layout(shapes)

    def start(self, seeds: Sequence[int], base: Mapping[str, Tensor]) -> Params:
        """Return A drawn by each seed, the same for every task, and B of zeros."""
        found: Params = {}
        for name, each in self._adapted.items():
            draws = [rng.tensors(seed, "low-rank adapter", name) for seed in seeds]
            drawn = torch.stack([torch.rand(each.rank, each.rest, generator=draw) for draw in draws])
            found[name + DOWN] = ((2 * drawn - 1) / math.sqrt(each.rest)).to(self._net.device)
            found[name + UP] = torch.zeros(len(seeds), each.units, each.rank, device=self._net.device)
        return found

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the adapted weights of one seed."""
        return {name: base[name] + self.scale * self.added(name, own) for name in self._adapted}

    def added(self, name: str, own: Mapping[str, Tensor]) -> Tensor:
        """Return the product B A of one seed in the shape of its weight."""
        shape, dim = self._net.shapes[name], self._adapted[name].dim
        moved = (shape[dim], *shape[:dim], *shape[dim + 1 :])
        return (own[name + UP] @ own[name + DOWN]).reshape(moved).movedim(0, dim)

    def _matrix(self, name: str, rank: int) -> _Adapted:
        shape = self._net.shapes[name]
        dim = output_axis(self._net, name.removesuffix(".weight")) if name.endswith(".weight") else 0
        rest = math.prod(shape) // shape[dim]
        return _Adapted(shape[dim], rest, min(rank, shape[dim], rest), dim)
