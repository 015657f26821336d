"""The reason why the output of a module is not that of its last linear layer, in words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_engine.core import rng


def why_not(module: nn.Module, head: str, x: Tensor) -> str:
    """Return why a module does not return what its layer ``head`` gives for features, seen on rows ``x [2, …]``.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.LogSoftmax(1))
    >>> why_not(net, "1", torch.rand(2, 1, 2, 2))
    'the net changes what it gives afterwards'
    """
    layer = module.get_submodule(head)
    whole, given, _ = _answered(module, head, x, cut=False)
    _, _, behind = _answered(module, head, x, cut=True)
    if not isinstance(given, Tensor):
        return "it is not called"
    if behind:
        return f"behind it the net computes with {' and '.join(repr(name) for name in behind[:2])}"
    if whole is given or (whole.shape == given.shape and torch.equal(whole, given)):
        kind = type(layer).__name__
        return f"it is a {kind}, which gives something else than its weight times the features plus its bias"
    if whole.shape[:1] == given.shape[:1] and whole.shape[1] < given.shape[1] and _among(whole, given):
        return f"the net returns {whole.shape[1]} of the {given.shape[1]} numbers it gives: build it with as many as are returned"
    return "the net changes what it gives afterwards"


def _among(part: Tensor, whole: Tensor) -> bool:
    """Return whether each column of one is one of the other's."""
    return all(any(torch.equal(own, each) for each in whole.unbind(dim=1)) for own in part.unbind(dim=1))


def _answered(module: nn.Module, head: str, x: Tensor, cut: bool) -> tuple[Tensor, Any, list[str]]:
    """Return the output, what the head gave last, and the weights that the output depends on; ``cut``: not through the head."""
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in module.named_parameters()}
    seen: list[Any] = [None]

    def look(layer: nn.Module, inputs: Any, output: Any) -> Any:
        seen[0] = output
        return output.detach() if cut and isinstance(output, Tensor) else None

    hook = module.get_submodule(head).register_forward_hook(look)
    try:
        with torch.enable_grad(), rng.ambient(0, "trial", device=x.device):
            output = functional_call(module, weights, (x.clone(),), tie_weights=True)
    finally:
        hook.remove()
    if not output.requires_grad:
        return output, seen[0], []
    found = torch.autograd.grad(output.sum(), list(weights.values()), allow_unused=True)
    return output, seen[0], [name for name, gradient in zip(weights, found, strict=True) if gradient is not None]
