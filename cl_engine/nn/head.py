"""The head of a module, its last ``nn.Linear``: found, and taken off."""

from __future__ import annotations

import copy

from torch import nn

from cl_engine.errors import UsageError

HEAD = HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"


def head_names(module: nn.Module) -> dict[str, str]:
    """Return the names of the head's weight and bias in the module, and ours for them.

    Raises:
        UsageError: if no ``nn.Linear`` with a bias can be the head.
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear or not linear[-1]:
        raise UsageError("the net has no nn.Linear inside that could be its head: end the net with one")
    name = "head" if "head" in linear else linear[-1]
    if module.get_submodule(name).bias is None:
        raise UsageError(f"the net's head '{name}' has no bias: give it one")
    return {f"{name}.weight": HEAD_WEIGHT, f"{name}.bias": HEAD_BIAS}


def without_head(module: nn.Module, head: str) -> nn.Module:
    """Return a copy of the module that gives what the head of this name would read."""
    body = copy.deepcopy(module)
    parent, _, leaf = head.rpartition(".")
    setattr(body.get_submodule(parent) if parent else body, leaf, nn.Identity())
    return body
