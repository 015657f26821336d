"""Units of a net's hidden layers, and which inputs of which layers read each: found in trial runs, not read from classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cl_engine.nn.head import HEAD_WEIGHT
from cl_engine.nn.hooks import on_units
from cl_engine.nn.net import Net, Params

HEAD = HEAD_WEIGHT.rpartition(".")[0]
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
LEAST, MOST, APART = 0.3, 0.5, 0.25  # what units are held at in a trial, and what they are changed by

Values = Mapping[str, Tensor]
Reads = Mapping[str, Tensor]  # by layer, with what it reads as the last axis


@dataclass(frozen=True)
class Units:
    """A hidden layer whose units can be told apart by whoever reads them.

    >>> from cl_engine.runs.plugins import net_builder
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> [(units.layer, units.count, list(units.readers)) for units in hidden_units(net)]
    [('1', 6, ['3']), ('3', 5, ['head'])]

    Attributes:
        layer: its name, in the names of weights.
        count: how many units it has.
        norm: the normalisation that follows it, unit by unit; None: there is none.
        readers: of each layer that reads it, which of that layer's inputs read each unit, int64 ``[units, places]``; several
            where maps were flattened.
    """

    layer: str
    count: int
    norm: str | None
    readers: Mapping[str, Tensor]


_FOUND: WeakKeyDictionary[Net, tuple[Units, ...]] = WeakKeyDictionary()


def hidden_units(net: Net) -> tuple[Units, ...]:
    """Return the hidden layers whose units can be taken one by one, in order.

    Left out are layers whose outputs are added to others' or to the inputs (residual branches), mixed before they are read
    (by a normalisation after the activation, or as queries and keys are), read by something that is not a linear or
    convolution layer, or made by one that is called several times.
    """
    if net not in _FOUND:
        _FOUND[net] = tuple(_found(net))
    return _FOUND[net]


def module_name(net: Net, layer: str) -> str:
    """Return the name in the module of a layer by its name among weights: they differ for the head alone."""
    return net.head if layer == HEAD else layer


def _found(net: Net) -> list[Units]:
    """Hold the outputs of all layers at constants, change those of some units, and look at which inputs change."""
    layers = [name.rpartition(".")[0] for name in net.shapes if name.endswith(".weight") and _plain(net, name)]
    sources = [layer for layer in layers if layer != HEAD]
    counts = {layer: net.shapes[f"{layer}.weight"][0] for layer in sources}
    held = {layer: torch.linspace(LEAST, MOST, count, device=net.device) for layer, count in counts.items()}
    params, x, calls = {k: own[0] for k, own in net.init([0]).items()}, net.example(2), dict.fromkeys(layers, 0)
    norms = _norms(net, params, sources, x)
    trial = partial(_trial, net, params, layers, {layer: norms.get(layer, layer) for layer in sources})
    before = [trial(_signed(held, 1), x, calls), trial(_signed(held, -1), x)]

    def changed(apart: Values, rows: Tensor = x) -> Reads:
        """Return which inputs of each layer are others where units are changed by these amounts, ``[inputs]``."""
        found: dict[str, Tensor] = {}
        for sign, base in zip((1, -1), before, strict=True):
            now = trial(_signed({layer: held[layer] + apart.get(layer, 0.0) for layer in held}, sign), rows)
            for reader in base:
                other = (now[reader] != base[reader]).flatten(0, -2).any(dim=0)
                found[reader] = found[reader] | other if reader in found else other
        return found

    of_inputs = changed({}, x.flip(0))
    by = {layer: changed({layer: torch.tensor(APART, device=net.device)}) for layer in sources}
    several = {
        reader: sum(by[layer][reader].int() for layer in sources) + of_inputs[reader] > 1 for reader in of_inputs
    }
    bits = max(counts.values(), default=1).bit_length()
    codes = [_by_bit(changed, counts, bit, net.device) for bit in range(bits)]
    clear = {
        reader: torch.stack([one[reader] ^ other[reader] for one, other in codes]).all(dim=0) for reader in of_inputs
    }
    weights = 1 << torch.arange(bits, device=net.device)
    number = {
        reader: (torch.stack([one[reader] for one, _ in codes], dim=1) * weights).sum(dim=1) for reader in of_inputs
    }
    units = []
    for layer in sources:
        readers: dict[str, Tensor] = {}
        for reader in of_inputs:
            own = by[layer][reader]
            if own.any():
                fine = not bool((own & (several[reader] | ~clear[reader])).any())
                readers[reader] = _columns(number[reader], own, counts[layer]) if fine else own[:0]
        if readers and all(map(len, readers.values())) and calls[layer] == 1:
            units.append(Units(layer, counts[layer], norms.get(layer), readers))
    return units


def _columns(number: Tensor, own: Tensor, count: int) -> Tensor:
    """Return which inputs read each unit, ``[units, places]``; empty where units are not read by as many inputs each."""
    places = own.nonzero().squeeze(1)
    found = number[places]
    if int(found.max()) >= count or len(torch.bincount(found, minlength=count).unique()) > 1:
        return places[:0]
    return places[found.argsort(stable=True)].reshape(count, -1)


def _by_bit(
    changed: Callable[[Values], Reads], counts: Mapping[str, int], bit: int, device: torch.device
) -> tuple[Reads, Reads]:
    """Return which inputs change with the units whose number has this bit, and with those whose number has not."""
    has = {layer: (torch.arange(count, device=device) >> bit) & 1 for layer, count in counts.items()}
    return changed({k: APART * h for k, h in has.items()}), changed({k: APART * (1 - h) for k, h in has.items()})


def _signed(values: Values, sign: int) -> Values:
    return {layer: sign * value for layer, value in values.items()}


def _trial(
    net: Net,
    params: Params,
    layers: Sequence[str],
    places: Mapping[str, str],
    held: Values,
    x: Tensor,
    calls: dict[str, int] | None = None,
) -> Reads:
    """Return what every layer reads where the units of all are held at these values, and count how often each is called."""
    read: dict[str, Tensor] = {}

    def note(layer: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if calls is not None:
            calls[layer] += 1
        first = inputs[0].movedim(1, -1) if isinstance(module, nn.modules.conv._ConvNd) else inputs[0]
        read[layer] = torch.cat([read[layer], first.flatten(0, -2)]) if layer in read else first.flatten(0, -2)

    hooks = [_part(net, layer).register_forward_pre_hook(partial(note, layer)) for layer in layers]
    pins = {places[layer]: on_units(value.expand_as) for layer, value in held.items()}
    try:
        with torch.no_grad():
            net.one(params, x, False, hooks=pins)
    finally:
        for hook in hooks:
            hook.remove()
    return read


def _norms(net: Net, params: Params, layers: Sequence[str], x: Tensor) -> dict[str, str]:
    """Return for layers the normalisation that reads what each gives as it is, if it has as many channels."""
    given: dict[int, tuple[str, Tensor]] = {}
    found: dict[str, str] = {}

    def give(layer: str, module: nn.Module, inputs: Any, output: Any) -> None:
        given[id(output)] = layer, output  # held, so that no other is at its place in memory

    def note(name: str, module: nn.Module, inputs: Any) -> None:
        layer = given.get(id(inputs[0]), ("", x))[0]
        if net.shapes[f"{name}.weight"] == net.shapes.get(f"{layer}.weight", (0,))[:1]:
            found[layer] = name

    names = [name for name in net.layers if f"{name}.weight" in net.shapes and isinstance(_part(net, name), NORMS)]
    hooks = [_part(net, layer).register_forward_hook(partial(give, layer)) for layer in layers]
    hooks += [_part(net, name).register_forward_pre_hook(partial(note, name)) for name in names]
    try:
        with torch.no_grad():
            net.one(params, x, False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _part(net: Net, layer: str) -> nn.Module:
    return net.owner(f"{layer}.weight")


def _plain(net: Net, name: str) -> bool:
    """Return whether a weight belongs to a layer each output of which has weights of its own that read all inputs."""
    layer = net.owner(name)
    if isinstance(layer, nn.Linear):
        return True
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == 1 and not layer.transposed
