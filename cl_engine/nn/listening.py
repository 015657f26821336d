"""Hearing what layers of a net read while a loss is computed, without a second forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Listener:
    """Hears what some layers read, in calls of a net with certain weights.

    >>> Listener({"2": frozenset()}).heard
    {}

    Attributes:
        layers: their names in the module, each with what tells the calls to listen to from others, as those of a frozen copy:
            `id` of tensors, one of which is given.
        heard: what was read ``[N, …]``, by layer, the rows of several calls one after the other.
    """

    layers: Mapping[str, frozenset[int]]
    heard: dict[str, Tensor] = field(default_factory=dict)

    def hook(self, layer: str) -> Callable[[nn.Module, Any], None]:
        """Return what is called before a layer is."""

        def note(module: nn.Module, inputs: Any) -> None:
            read = inputs[0].detach()
            self.heard[layer] = torch.cat([self.heard[layer], read]) if layer in self.heard else read

        return note


_LISTENERS: list[Listener] = []


@contextmanager
def inputs_heard(layers: Mapping[str, Iterable[Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Hear, inside the block, what layers read in calls that are given one of each layer's tensors, and not others like it."""
    listener = Listener({layer: frozenset(map(id, tensors)) for layer, tensors in layers.items()})
    _LISTENERS.append(listener)
    try:
        yield listener.heard
    finally:
        _LISTENERS.remove(listener)


def hooks_for(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[Callable[[], None]]:
    """Put a hook before each layer that somebody listens to in a call with these tensors; yield what takes it away again."""
    for listener in _LISTENERS:
        given = {id(tensor) for tensor in tensors.values()}
        for layer, wanted in listener.layers.items():
            if wanted & given:
                yield module.get_submodule(layer).register_forward_pre_hook(listener.hook(layer)).remove
