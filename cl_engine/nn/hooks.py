"""Functions that change what a layer of a net gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Hook = Callable[[nn.Module, Any, Any], Any]
_WATCHING: list[tuple[str, Hook]] = []

UNITS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)  # [N, units, …]
UNITS_LAST = (nn.Linear, nn.LayerNorm, nn.RNNBase, nn.MultiheadAttention, nn.Embedding)  # [N, …, units]


def unit_axis(layer: nn.Module, output: Tensor) -> int:
    """Return the axis of a layer's output ``[N, …]`` along which its units lie: 1 for maps, the last for tokens.

    That of a container is that of the last layer inside whose kind says it; other layers give maps if they give more
    than three axes.
    """
    kinds = [part for part in layer.modules() if isinstance(part, UNITS_FIRST + UNITS_LAST)]
    first = isinstance(kinds[-1], UNITS_FIRST) if kinds else output.ndim > 3
    return 1 if first else output.ndim - 1


def on_units(change: Callable[[Tensor], Tensor]) -> Hook:
    """Return a hook that changes a layer's output, given with its units as the last axis.

    Of layers that return several things (attention, recurrent layers), the first is the output.
    """

    def hook(layer: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (hook(layer, inputs, output[0]), *output[1:])
        axis = unit_axis(layer, output)
        return change(output.movedim(axis, -1)).movedim(-1, axis)

    return hook


@contextmanager
def watching(hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Put hooks, by the layer's name in the module, into every call of a net inside the block, whole or without its head."""
    before = len(_WATCHING)
    _WATCHING.extend(hooks.items())
    try:
        yield
    finally:
        del _WATCHING[before:]


def watchers() -> list[tuple[str, Hook]]:
    """Return the hooks that calls of nets have now."""
    return _WATCHING


def gating(gate: Tensor) -> Hook:
    """Return a hook that multiplies the outputs of a layer by factors ``[units]``."""
    return on_units(lambda output: output * gate)
