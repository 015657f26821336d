"""Gates on the units of a network: where they stand, and which gated layer each layer reads (HAT, Serrà et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.masks.layout import layers_of, some_maskable, unit_dim, units_of
from cl_engine.masks.norms import norm_after
from cl_engine.nn.activations import ConcatReLU
from cl_engine.nn.net import Net, Params
from cl_engine.nn.units import hidden_units


@dataclass(frozen=True)
class Gates:
    """The gated layers of a net.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> Gates.of(net, (1, 2, 2)).total
    11

    Attributes:
        layers: layers with weights, in order.
        units: number of outputs of each.
        places: the layer at whose output the gate stands: the layer itself, or the normalisation that follows it.
        reads: of each layer, the gated layer whose outputs are all that it reads, or None (the net's inputs, a sum).
        dims: the axis of each layer's weight that counts its outputs.
        interleaved: layers that read all units of one place, then all of the next (tokens), not all places of a unit.
        owners: of layers that read units under concatenated ReLU, which unit each of their inputs reads.
    """

    layers: list[str]
    units: dict[str, int]
    places: dict[str, str]
    reads: dict[str, str | None]
    dims: dict[str, int]
    interleaved: tuple[str, ...] = ()
    owners: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, net: Net, input_shape: tuple[int, ...]) -> Gates:
        """Find the gates of a net, and what each layer reads by closing one gate after the other."""
        layers = layers_of(net, some_maskable(net, "hat"), "hat")
        dims = {layer: unit_dim(net, layer) for layer in layers}
        units = {layer: units_of(net, layer) for layer in layers}
        places = {layer: norm_after(net, layers).get(layer, layer) for layer in layers}
        # with every bias and shift above zero, what reads nothing still gives something
        params = {
            name: tensor[0].abs() + 0.5 if name.endswith("bias") else tensor[0]
            for name, tensor in net.init([0]).items()
        }
        x = torch.linspace(0, 1, 2 * math.prod(input_shape), device=net.device).reshape(2, *input_shape)
        x = x if net.vocabulary is None else net.example(2)
        open_gates = {places[layer]: torch.ones(units[layer], device=net.device) for layer in layers}
        reads: dict[str, str | None] = dict.fromkeys(layers)
        for layer in layers:
            closed = {**open_gates, places[layer]: torch.zeros(units[layer], device=net.device)}
            inputs = _inputs(net, layers, params, x, closed)
            for reader in layers[layers.index(layer) + 1 :]:
                found = net.shapes[f"{reader}.weight"][1]
                if not inputs[reader].any() and found % units[layer] == 0 and not dims[reader]:
                    reads[reader] = layer
        interleaved = []
        for reader, source in reads.items():
            if (
                source is not None and net.shapes[f"{reader}.weight"][1] > units[source]
            ):  # units were flattened with places
                half = open_gates[places[source]].clone()
                half[len(half) // 2 :] = 0.0
                seen = _inputs(net, layers, params, x, {**open_gates, places[source]: half})[reader]
                # maps [C, H, W] leave the second half of their columns empty, tokens [T, F] some of each token's
                interleaved += [reader] if seen[..., seen.shape[-1] // 2 :].any() else []
        return cls(layers, units, places, reads, dims, tuple(interleaved), _owners(net, reads))

    @property
    def total(self) -> int:
        """Number of all gated units."""
        return sum(self.units.values())

    def named(self, row: Tensor) -> Params:
        """Return ``[…, total]`` as ``{layer: […, units]}``."""
        return dict(zip(self.layers, row.split(list(self.units.values()), dim=-1), strict=True))

    def at(self, gates: Params) -> Params:
        """Return gates by the layer at whose output they stand."""
        return {self.places[layer]: gate for layer, gate in gates.items()}

    def open(self, used: Params, name: str, weight: Tensor) -> Tensor:
        """Return the share of its gradient that a weight or bias of one seed may follow (eq. 2).

        1 − min(use of the unit it belongs to, use of the unit it reads): what earlier tasks use stays as it is.
        """
        layer, _, kind = name.rpartition(".")
        post = used[layer]
        if kind != "weight":
            return 1 - post
        before = self.dims[layer]
        post = post.reshape(*[1] * before, -1, *[1] * (weight.ndim - 1 - before))
        source = self.reads[layer]
        if source is None:
            return (1 - post).expand_as(weight)
        places = weight.shape[1] // self.units[source]
        if layer in self.owners:
            pre = used[source][self.owners[layer]]
        else:
            pre = used[source].repeat(places) if layer in self.interleaved else used[source].repeat_interleave(places)
        return 1 - torch.minimum(post, pre.reshape(1, -1, *[1] * (weight.ndim - 2)))


def _owners(net: Net, reads: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Return which unit each input of a layer reads, where activations give several numbers a unit.

    Raises:
        UsageError: if a closed gate does not silence a unit.
    """
    kinds = {type(net.owner(f"{name}.weight")) for name in net.layers if name}
    found: dict[str, Tensor] = {}
    for units in hidden_units(net) if kinds & {nn.Sigmoid, ConcatReLU} else ():
        for reader, columns in units.readers.items():
            if reader in reads and reads[reader] != units.layer:
                raise UsageError(
                    f"hat: what '{reader}' reads of '{units.layer}' is not 0 where a gate is closed, as a sigmoid gives a half: "
                    "choose an activation that gives 0 for 0"
                )
            found[reader] = columns.flatten().argsort() // columns.shape[1]
    return found


def _inputs(net: Net, layers: list[str], params: Params, x: Tensor, gates: Params) -> dict[str, Tensor]:
    """Return the inputs of every layer for inputs ``x`` and these gates."""
    seen: dict[str, Tensor] = {}

    def noting(layer: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            seen[layer] = inputs[0]

        return hook

    hooks = [net.owner(f"{layer}.weight").register_forward_pre_hook(noting(layer)) for layer in layers]
    try:
        with torch.no_grad():
            net.one(params, x, False, gates=gates)
    finally:
        for hook in hooks:
            hook.remove()
    missing = [layer for layer in layers if layer not in seen]
    if missing:
        raise UsageError(
            f"hat: the net uses the weights of '{missing[0]}' without calling the layer, as attention does, so that its "
            "outputs cannot be gated: choose a net without, or freeze that layer"
        )
    return seen
