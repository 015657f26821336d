"""Modules built afresh for a net: lazy layers made whole, what changes from call to call among the buffers."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn


class Builder:
    """Builds a module that is complete: a dry run gives lazy layers their sizes, and named attributes become buffers.

    >>> Builder(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), torch.rand(2, 1, 2, 2))()[1].weight.shape
    torch.Size([3, 4])
    """

    def __init__(self, build: Callable[[], nn.Module], x: Tensor, buffers: Collection[str] = ()) -> None:
        """Build what ``build`` returns for inputs like ``x``; ``buffers`` names what the module keeps as plain attributes."""
        self._build, self._blank, self._buffers = build, torch.zeros_like(x, device="cpu"), buffers

    def __call__(self) -> nn.Module:
        """Return the module."""
        module = self._build()
        if any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
            modes = [(part, part.training) for part in module.modules()]
            with torch.no_grad():
                module.eval()(self._blank)
            for part, mode in modes:
                part.training = mode
        for name in self._buffers:
            owner, _, leaf = name.rpartition(".")
            part = module.get_submodule(owner)
            part.register_buffer(leaf, part.__dict__.pop(leaf).detach().clone(), persistent=False)
        return module


def plain_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that a module and its parts keep as plain attributes, neither parameters nor buffers."""
    return {
        f"{name}.{leaf}" if name else leaf: value
        for name, part in module.named_modules()
        for leaf, value in vars(part).items()
        if isinstance(value, Tensor)
    }
