"""Products of linear layers in the form that is fastest: for one net, and for several under `torch.vmap`."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 2_000_000  # multiplications: smaller products take as long either way, or longer
CPUINFO = Path("/proc/cpuinfo")


def quick(module: nn.Module) -> nn.Module:
    """Return the module, its linear layers multiplied as `linear` does."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear
    return module


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x wᵀ + b`` ``[N, out]`` for ``[N, in]``, as `torch.nn.functional.linear` does, within rounding.

    On a CPU, larger products of one net in float32 are oneDNN's where that is faster (`by_onednn`). Under `torch.vmap`, few
    rows are multiplied as columns: the gradients of several nets' weights then come out in the weights' own layout; torch's
    own form lays them out anew, which takes longer than all products (``benchmarks/products.py``).
    """
    if x.ndim == 2 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        if torch._C._are_functorch_transforms_active():
            if len(x) <= x.shape[1]:
                return _as_columns(x, weight, bias)
        elif (
            not torch.compiler.is_compiling() and _large(x, weight) and by_onednn()
        ):  # a trace is for any number of rows
            return _product(x, weight, bias)
    return F.linear(x, weight, bias)


def _as_columns(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product = torch.mm(weight, x.t()).t()
    return product if bias is None else product + bias


def _large(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype == torch.float32 and len(x) * weight.numel() >= LEAST


@cache
def by_onednn() -> bool:
    """Return whether oneDNN multiplies faster than MKL, which does not use AVX-512 on processors of AMD.

    There it takes half the time (``benchmarks/products.py``). The answer depends on the processor alone, never on a
    measurement, so that a run's numbers are the same again.
    """
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return there and torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() == "AuthenticAMD"


class Linear(nn.Linear):
    """``nn.Linear`` that multiplies in the fastest form (`linear`).

    >>> Linear(4, 3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, out]`` for ``[N, in]``."""
        return linear(input, self.weight, self.bias)


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
