"""Floating-point operations, counted as they happen."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # builds without oneDNN have none
# kernels of attention, each with the place of the query among its arguments; backward the gradient comes first
ATTENTION = {
    getattr(aten, name): int(name.endswith("backward"))
    for kernel in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    for name in (f"_scaled_dot_product_{kernel}", f"_scaled_dot_product_{kernel}_backward")
    if hasattr(aten, name)
}

BASIC: set[Any] = set()  # operations that have been found to be made of no others
COUNTED: set[Any] = {
    aten.mm,
    aten.bmm,
    aten.addmm,
    aten.baddbmm,
    aten.convolution,
    aten._convolution,
    aten.convolution_backward,
}
COUNTED |= {LINEAR, *ATTENTION}
FREE: set[Any] = set()  # those of them that are not counted, which is most: they are let through at once


class Flops(TorchDispatchMode):
    """Counts the multiplications and additions of matrix products and convolutions inside a ``with`` block.

    All else (activations, normalisation, updates of weights) is not counted, as is usual: it is less than a hundredth in
    nets worth counting. What runs under `torch.vmap` or in a backward pass is counted like anything else.

    >>> with Flops() as counted:
    ...     _ = torch.zeros(2, 3) @ torch.zeros(3, 4)
    >>> counted.total
    48

    Attributes:
        total: operations so far; a multiplication and its addition are two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return whether torch.compile has to be told to keep out, for which it is imported: that takes half a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FREE:
            return func(*args, **(kwargs or {}))
        if func not in BASIC:
            with self:  # without gradients (`torch.inference_mode`) operations arrive whole: take them apart
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
            BASIC.add(func)
            if func.overloadpacket not in COUNTED:
                FREE.add(func)
        out = func(*args, **(kwargs or {}))
        match func.overloadpacket:
            case aten.mm | aten.bmm:
                self.total += 2 * args[0].numel() * args[1].shape[-1]
            case aten.addmm | aten.baddbmm:
                self.total += 2 * args[1].numel() * args[2].shape[-1]
            case product if product is LINEAR:
                self.total += 2 * args[0].numel() * args[1].shape[0]
            case aten.convolution | aten._convolution:
                self.total += _of_convolution(out, args[1])
            case aten.convolution_backward:
                gradient, _, weight, *rest = args
                self.total += _of_convolution(gradient, weight) * (int(rest[-1][0]) + int(rest[-1][1]))
            case attention if attention in ATTENTION:
                first = ATTENTION[attention]
                self.total += _of_attention(args[first], args[first + 1], args[first + 2], bool(first))
        return out


def _of_convolution(output: torch.Tensor, weight: torch.Tensor) -> int:
    """Return the operations of a convolution, also a grouped one: every weight, at every place of every output."""
    return 2 * len(output) * prod(output.shape[2:]) * weight.numel()


def _of_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, backward: bool) -> int:
    """Return the operations of attention: two products, and backward five, as scores are computed again."""
    pairs = query.numel() // query.shape[-1] * key.shape[-2]
    scores, values = query.shape[-1], value.shape[-1]
    return 2 * pairs * (3 * scores + 2 * values if backward else scores + values)
