"""Modulation: what makes one net another task's, layer by layer: normalisation, gates on channels, residual adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core import rng
from cl_engine.errors import UsageError
from cl_engine.events import StrategyEvent
from cl_engine.masks.layout import Layout, layers_of, maskable, units_of
from cl_engine.masks.norms import TaskNorms, norm_after
from cl_engine.nn.fast_linear import linear
from cl_engine.nn.hooks import Hook, on_units
from cl_engine.nn.net import Net, Params

Part = Literal["norms", "se", "adapters"]
SQUEEZE = ("squeeze", "squeeze_bias", "excite", "excite_bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulationLearned(StrategyEvent):
    """What a task makes of one layer, by seed: the mean gate of its channels, and its adapter's norm over the kernel's.

    A layer without gates has a gate of 1, one without an adapter a norm of 0.

    >>> event = ModulationLearned(step=3, part="conv0", task_id=2, gate=(0.6, 0.5), adapter=(0.1, 0.2))
    >>> event.gate
    (0.6, 0.5)
    """

    part: str
    task_id: int
    gate: tuple[float, ...]
    adapter: tuple[float, ...]


class Modulation:
    """Parts of a task's own in a net that tasks share (Maninis, Radosavovic & Kokkinos 2019).

    ``norms``: scale, shift and BatchNorm statistics of every normalisation layer. ``se``: squeeze-and-excitation
    y · σ(W₂ relu(W₁ mean(y))) of each layer with weights, after the normalisation that follows it (Hu et al. 2018), with
    ⌈C / reduction⌉ channels inside. ``adapters``: a 1 × 1 convolution A beside each larger one, with its stride and groups,
    zero at the start (Rebuffi et al. 2018). As conv(x) + A(x) is a convolution again, A is added to the middle of the kernel,
    and costs no time. A linear layer is a 1 × 1 convolution of a single place: a net without larger kernels has adapters
    beside all its layers, each as large as the layer itself.

    Of a convolution from C to C channels a task keeps 2C numbers (``norms``; 2C more of BatchNorm's statistics), C²
    (``adapters``), and 2C⌈C / reduction⌉ and C + ⌈C / reduction⌉ biases (``se``).

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("small_cnn", {"width": 8, "layers": 2}, (1, 8, 8), 3), (1, 8, 8))
    >>> modulation = Modulation(net, ["norms", "se", "adapters"], reduction=16)
    >>> modulation.norms.layout.size, modulation.layout.size  # 2 · 4 · 8, and 8 + 64 beside 2 · (16 + 9)
    (64, 122)

    Attributes:
        norms: the normalisation layers of every task.
        gated: the layers that have gates, and where these stand: the layer, or the normalisation that follows it.
        adapted: the layers that have an adapter.
        layout: the numbers of a task's gates and adapters.
    """

    def __init__(self, net: Net, parts: Sequence[Part], reduction: int) -> None:
        """Find what is modulated.

        Raises:
            UsageError: if there are parts, and the net has nothing that they could stand at.
        """
        self._net = net
        self.norms = TaskNorms(net, "affine" if "norms" in parts else "frozen")
        names = maskable(net)
        layers = layers_of(net, names, "strategy.parts: found se") if "se" in parts else []
        self.gated = _called(net, {layer: norm_after(net, layers).get(layer, layer) for layer in layers})
        larger = [name for name in names if math.prod(net.shapes[name][2:]) > 1]
        self._adapted = {name.removesuffix(".weight"): name for name in (larger or names) * ("adapters" in parts)}
        self.adapted = list(self._adapted)
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.gated:
            channels = units_of(net, layer)
            inside = math.ceil(channels / reduction)
            sizes = (inside, channels), (inside,), (channels, inside), (channels,)
            shapes |= {f"{layer}:{part}": size for part, size in zip(SQUEEZE, sizes, strict=True)}
        shapes |= {f"{layer}:adapter": net.shapes[name][:2] for layer, name in self._adapted.items()}
        self.layout = Layout(shapes)
        if parts and not shapes and not self.norms.layout.shapes:
            missing = "normalisation layer" if names else "layer before its head that learns"
            raise UsageError(
                f"strategy.parts: found {', '.join(parts)}, and the net has no {missing}: choose another net, or other parts of "
                "norms, se, adapters"
            )

    def start(self, seeds: Sequence[int]) -> Params:
        """Return what every task starts from, ``{name: [S, …]}``: adapters of zeros, gates near one half."""
        found: Params = {}
        for name, shape in self.layout.shapes.items():
            if name.endswith((":squeeze", ":excite")):
                draws = [rng.tensors(seed, "modulation", name) for seed in seeds]
                drawn = torch.stack([torch.rand(shape, generator=draw) for draw in draws])
                found[name] = ((2 * drawn - 1) / math.sqrt(shape[1])).to(self._net.device)
            else:
                found[name] = torch.zeros(len(seeds), *shape, device=self._net.device)
        return found

    def applied(self, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Params:
        """Return the weights of one seed's net that its adapters change."""
        return {name: _in_the_middle(base[name], own[f"{layer}:adapter"]) for layer, name in self._adapted.items()}

    def hooks(self, own: Mapping[str, Tensor], noted: dict[str, Tensor] | None = None) -> dict[str, Hook]:
        """Return hooks that apply one seed's gates, for `Net.one`, and note the gates ``[N, C]`` by layer if asked to."""

        def gating(layer: str) -> Callable[[Tensor], Tensor]:
            squeeze, squeeze_bias, excite, excite_bias = (own[f"{layer}:{part}"] for part in SQUEEZE)

            def gate(y: Tensor) -> Tensor:
                mean = y.flatten(1, -2).mean(dim=1) if y.ndim > 2 else y
                opened = torch.sigmoid(linear(F.relu(linear(mean, squeeze, squeeze_bias)), excite, excite_bias))
                if noted is not None:
                    noted[layer] = opened
                return y * opened.reshape(y.shape[0], *[1] * (y.ndim - 2), -1)

            return gate

        return {place: on_units(gating(layer)) for layer, place in self.gated.items()}


def _called(net: Net, places: Mapping[str, str]) -> dict[str, str]:
    """Return the layers whose places the net calls: some read a layer's weights without calling it, as attention does."""
    seen: set[str] = set()

    def seeing(place: str) -> Callable[[Tensor], Tensor]:
        def look(output: Tensor) -> Tensor:
            seen.add(place)
            return output

        return look

    params = {name: tensor[0] for name, tensor in net.init([0]).items()} if places else {}
    if places:
        net.one(params, net.example(2), False, hooks={place: on_units(seeing(place)) for place in places.values()})
    return {layer: place for layer, place in places.items() if place in seen}


def _in_the_middle(weight: Tensor, adapter: Tensor) -> Tensor:
    """Return a kernel ``[O, I, …]`` with ``adapter [O, I]`` added at its middle."""
    beside = [(size - 1 - (size - 1) // 2, (size - 1) // 2) for size in weight.shape[2:]]
    around = [width for after, before in reversed(beside) for width in (before, after)]
    return weight + F.pad(adapter.reshape(*adapter.shape, *[1] * len(beside)), around)
