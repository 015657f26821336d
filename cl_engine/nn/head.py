"""The head of a module, the ``nn.Linear`` that gives its output: found, and taken off."""

from __future__ import annotations

from torch import nn

from cl_engine.errors import UsageError

HEAD = HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"


def linear_layers(module: nn.Module) -> list[str]:
    """Return the names of the module's ``nn.Linear``; a `UsageError` if there is none inside."""
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear) and name]
    if not names:
        raise UsageError("net.name: the net has no nn.Linear inside that could be its head: end the net with one")
    return names


def head_names(module: nn.Module, last: str | None = None) -> dict[str, str]:
    """Return the names of the head's weight and bias in the module, and ours for them.

    ``last`` names the layer that was seen to give the module's output; without it, the head is the layer so called, or
    the last ``nn.Linear``.

    Raises:
        UsageError: if no ``nn.Linear`` with a weight and a bias of its own can be the head.
    """
    linear = linear_layers(module)
    name = last or ("head" if "head" in linear else linear[-1])
    head = module.get_submodule(name)
    if head.bias is None:
        raise UsageError(f"net.name: the net's head '{name}' has no bias: give it one")
    every = list(module.named_parameters(remove_duplicate=False))
    for leaf in ("weight", "bias"):
        own = head._parameters.get(leaf)
        if own is None:
            raise UsageError(
                f"net.name: the {leaf} of the net's head '{name}' is computed from other tensors, as weight_norm does: "
                "end the net with a plain nn.Linear"
            )
        if not own.requires_grad:
            raise UsageError(
                f"net.name: the net's head '{name}' is frozen (requires_grad=False): let its {leaf} learn, or freeze "
                "layers before it alone"
            )
        other = next((known for known, one in every if one is own and known != f"{name}.{leaf}"), None)
        if other is not None:
            raise UsageError(
                f"net.name: the net's head '{name}' shares its {leaf} with '{other}', and every task may have a head of "
                "its own: give the head tensors that nothing else uses"
            )
    return {f"{name}.weight": HEAD_WEIGHT, f"{name}.bias": HEAD_BIAS}


def take_off(module: nn.Module, head: str) -> None:
    """Make the module give what the head of this name would read."""
    parent, _, leaf = head.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, leaf, nn.Identity())
