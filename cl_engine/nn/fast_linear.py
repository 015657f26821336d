"""Linear layers multiplied by oneDNN, on processors where torch's own choice (MKL) is much slower."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LEAST = 2_000_000  # multiplications: smaller products take as long either way, or longer
CPUINFO = Path("/proc/cpuinfo")


def quick(module: nn.Module) -> nn.Module:
    """Return the module, its linear layers multiplied by oneDNN where that is faster (`by_onednn`)."""
    if by_onednn():
        for part in module.modules():
            if type(part) is nn.Linear:
                part.__class__ = Linear
    return module


@cache
def by_onednn() -> bool:
    """Return whether oneDNN multiplies faster than MKL, which does not use AVX-512 on processors of AMD.

    There it takes half the time (``benchmarks/products.py``). The answer depends on the processor alone, never on a
    measurement, so that a run's numbers are the same again.
    """
    known = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch._C, "_are_functorch_transforms_active")
    there = known and torch.backends.mkldnn.is_available()
    return there and torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() == "AuthenticAMD"


class Linear(nn.Linear):
    """``nn.Linear``, whose larger products in float32 on a CPU are oneDNN's; under `torch.vmap` they are torch's own.

    >>> Linear(4, 3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, out]`` for ``[N, in]``."""
        large = input.ndim == 2 and len(input) * self.weight.numel() >= LEAST
        plain = input.dtype == self.weight.dtype == torch.float32 and input.device.type == "cpu"
        if large and plain and not torch.is_autocast_enabled("cpu") and not torch._C._are_functorch_transforms_active():
            return _product(input, self.weight, self.bias)
        return super().forward(input)


class _Product(torch.autograd.Function):
    """``a wᵀ + b``, whose gradients are such products again."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(a, w)
        return _multiplied(a, w, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (a, w), gradient = ctx.saved_tensors, gradients[0]
        of_a, of_w, of_b = ctx.needs_input_grad
        return (
            _product(gradient, w.t(), None) if of_a else None,
            _product(gradient.t(), a.t(), None) if of_w else None,
            gradient.sum(dim=0) if of_b else None,
        )


def _product(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """Return the product, to be differentiated where gradients are wanted (as also those of gradients may be)."""
    product: Tensor = _Product.apply(a, w, b) if torch.is_grad_enabled() else _multiplied(a, w, b)
    return product


def _multiplied(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(w), b, "none", [], "")
    return product


def _dense(matrix: Tensor) -> Tensor:
    """Return the matrix without gaps in memory: with gaps oneDNN multiplies a thousand times more slowly."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def _vendor() -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else [f"vendor_id: {platform.processor()}"]
    said = next((line for line in lines if line.startswith("vendor_id")), "")
    return next((vendor for vendor in ("AuthenticAMD", "GenuineIntel") if vendor in said), "")
