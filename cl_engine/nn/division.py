"""Division of a network into modules, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.front import front_of
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.hooks import Hook, on_units
from cl_engine.nn.net import Net

Division = list[list[str]]


def division(net: Net) -> Division:
    """Return the names of the weights and buffers of each module, from the inputs to the head.

    A module that has an attribute ``stages`` (a tuple or list of sequences of prefixes of names, the head left out) is cut there.
    Any other is cut before each linear and convolution layer; its ``front``, where it has one, is one module. The head is the
    last.

    Raises:
        UsageError: if ``stages`` do not name every weight and buffer once.
    """
    body = [name for name in net.shapes if name not in (HEAD_WEIGHT, HEAD_BIAS)]
    stages = _stages(net)
    parts = _before_layers(net, body) if stages is None else [_under(prefixes, body) for prefixes in stages]
    named = [name for part in parts for name in part]
    if sorted(named) != sorted(body):
        odd = sorted(set(body).symmetric_difference(named) or {name for name in named if named.count(name) > 1})
        raise UsageError(f"the net's stages must name every weight once; it is otherwise with: {', '.join(odd)}")
    return [*parts, [HEAD_WEIGHT, HEAD_BIAS]]


def ends(net: Net) -> list[str]:
    """Return the layer at whose output each module ends, the head left out."""
    stages = _stages(net)
    if stages is not None:
        # a prefix may be a weight of the net itself, which no layer has
        return [next((one for one in reversed(prefixes) if one in net.layers), prefixes[-1]) for prefixes in stages]
    # weights that others are computed to (weight_norm) lie below the layer that has them
    front = front_of(net)
    layers = [part[-1].rpartition(".")[0].partition(".parametrizations.")[0] for part in division(net)[:-1]]
    return ["front", *layers[1:]] if front else layers


def _stages(net: Net) -> Sequence[Sequence[str]] | None:
    found = net.attribute("stages")
    return (
        found if isinstance(found, tuple | list) else None
    )  # a part of the net that is called so says nothing of cuts


def end_units(net: Net) -> dict[str, int]:
    """Return how many units (channels of maps) the output of each module has, by the layer that it ends at, the head left out."""
    units: dict[str, int] = {}

    def seen(layer: str) -> Hook:
        def look(output: Tensor) -> Tensor:
            units[layer] = output.shape[-1]
            return output

        return on_units(look)

    params = {name: tensor[0] for name, tensor in net.init([0]).items()}
    net.one(params, net.example(2), False, hooks={layer: seen(layer) for layer in ends(net)})
    return units


def _before_layers(net: Net, names: list[str]) -> Division:
    front = front_of(net)
    parts: Division = [front] if front else []
    names = [name for name in names if name not in front]
    for layer in net.layers:
        own = [name for name in names if name.rpartition(".")[0] == layer]
        if own and (len(parts) == bool(front) or isinstance(net.owner(own[0]), nn.Linear | nn.modules.conv._ConvNd)):
            parts.append([])
        if own:
            parts[-1] += own
    return parts


def _under(prefixes: Sequence[str], names: list[str]) -> list[str]:
    return [name for name in names if any(name == p or name.startswith(f"{p}.") for p in prefixes)]
