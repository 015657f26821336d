"""The head of a module, the layer that gives its output: found, taken off, and applied.

It is an ``nn.Linear`` that reads features ``[N, width]``, or a 1×1 ``nn.Conv2d`` that reads maps ``[N, width, h, w]``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.fast_linear import linear

HEAD = HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"


def reads_places(layer: nn.Module) -> bool:
    """Return whether a layer is a 1×1 convolution, that is a linear map over the channels of each place."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding in ((0, 0), "valid", "same")
        and layer.groups == 1
    )


def possible_heads(module: nn.Module) -> list[str]:
    """Return the names of the layers that could be the module's head; a `UsageError` if there is none inside."""
    names = [
        name for name, part in module.named_modules() if name and (isinstance(part, nn.Linear) or reads_places(part))
    ]
    if not names:
        raise UsageError(
            "net.name: the net has no nn.Linear inside that could be its head: end the net with one, or with a 1×1 "
            "nn.Conv2d for answers at places"
        )
    return names


def head_names(module: nn.Module, last: str | None = None) -> dict[str, str]:
    """Return the names of the head's weight and bias in the module, and ours for them.

    ``last`` names the layer that was seen to give the module's output; without it, the head is the layer so called, or
    the last ``nn.Linear``, or the last 1×1 convolution.

    Raises:
        UsageError: if no such layer with a weight and a bias of its own can be the head.
    """
    possible = possible_heads(module)
    linear = [name for name in possible if isinstance(module.get_submodule(name), nn.Linear)]
    name = last or ("head" if "head" in possible else (linear or possible)[-1])
    head = module.get_submodule(name)
    if head.bias is None:
        raise UsageError(f"net.name: the net's head '{name}' has no bias: give it one")
    every = list(module.named_parameters(remove_duplicate=False))
    for leaf in ("weight", "bias"):
        own = head._parameters.get(leaf)
        if own is None:
            raise UsageError(
                f"net.name: the {leaf} of the net's head '{name}' is computed from other tensors, as weight_norm does: "
                f"end the net with a plain {kind_of(head)}"
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


def kind_of(head: nn.Module) -> str:
    """Return what a head is, in words."""
    return "1×1 nn.Conv2d" if reads_places(head) else "nn.Linear"


def take_off(module: nn.Module, head: str) -> None:
    """Make the module give what the head of this name would read."""
    parent, _, leaf = head.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, leaf, nn.Identity())


def apply_head(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the logits that a head gives for the features of one seed.

    Args:
        features: ``[N, width]``, or maps ``[N, width, h, w]``.
        weight: ``[O, width]``, or ``[N, O, width]`` where each row has a head of its own.
        bias: ``[O]``, or ``[N, O]``.

    Returns:
        ``[N, O]``, or ``[N, O, h, w]``.
    """
    if features.ndim > 2:
        logits = weight @ features.flatten(2) + bias.unsqueeze(-1)
        return logits.reshape(*logits.shape[:2], *features.shape[2:])
    if weight.ndim > 2:
        return torch.einsum("nw,ncw->nc", features, weight) + bias
    return linear(features, weight, bias)
