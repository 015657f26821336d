"""Floating-point operations, counted as they happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

Counter = Callable[[Sequence[Any], torch.Tensor], int]  # given what an operation was called with, and what it returned


def _of_product(left: int, right: int, axis: int = -1) -> Counter:
    """Return what counts a matrix product of the arguments at these places, ``axis`` of the right one being no sum's."""
    return lambda args, out: 2 * args[left].numel() * args[right].shape[axis]


def _of_convolution(output: torch.Tensor, weight: torch.Tensor) -> int:
    """Return the operations of a convolution, also a grouped one: every weight, at every place of every output."""
    return 2 * len(output) * prod(output.shape[2:]) * weight.numel()


def _of_convolution_backward(args: Sequence[Any], out: torch.Tensor) -> int:
    gradient, _, weight, *rest = args
    return _of_convolution(gradient, weight) * (int(rest[-1][0]) + int(rest[-1][1]))


def _of_attention(first: int) -> Counter:
    """Return what counts attention whose query is the argument at this place: two products, and backward five.

    Backward the gradient comes before it, and scores are computed again.
    """

    def count(args: Sequence[Any], out: torch.Tensor) -> int:
        query, key, value = args[first : first + 3]
        pairs = query.numel() // query.shape[-1] * key.shape[-2]
        scores, values = query.shape[-1], value.shape[-1]
        return int(2 * pairs * (3 * scores + 2 * values if first else scores + values))

    return count


COUNTED: dict[Any, Counter] = {
    aten.mm: _of_product(0, 1),
    aten.bmm: _of_product(0, 1),
    aten.addmm: _of_product(1, 2),
    aten.baddbmm: _of_product(1, 2),
    LINEAR: _of_product(0, 1, axis=0),
    aten.convolution: lambda args, out: _of_convolution(out, args[1]),
    aten._convolution: lambda args, out: _of_convolution(out, args[1]),
    aten.convolution_backward: _of_convolution_backward,
}
COUNTED |= {kernel: _of_attention(first) for kernel, first in ATTENTION.items()}
BASIC: dict[Any, Counter | None] = {}  # operations that have been found to be made of no others; most are not counted


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
        if func not in BASIC:
            with self:  # without gradients (`torch.inference_mode`) operations arrive whole: take them apart
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
            BASIC[func] = COUNTED.get(func.overloadpacket)
        out = func(*args, **(kwargs or {}))
        count = BASIC[func]
        if count is not None:
            self.total += count(args, out)
        return out
