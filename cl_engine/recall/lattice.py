"""Vectors on a lattice: rounded to few steps, written as entropy-coded bytes, and read back exactly."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def steps_of(vectors: Tensor, sizes: Sequence[int], bits: int) -> Tensor:
    """Return the lattice's step for each tensor inside the vectors ``[S, P]``, as ``[S, tensors]``.

    The largest absolute value of a tensor falls on the last of the 2^bits − 1 points around zero.
    """
    largest = torch.stack([part.abs().amax(dim=1) for part in vectors.split(list(sizes), dim=1)], dim=1)
    return (largest / float(2 ** (bits - 1) - 1)).clamp_min(1e-12)


def spread(steps: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the steps ``[S, tensors]`` for every weight, ``[S, P]``."""
    return steps.repeat_interleave(torch.tensor(list(sizes), device=steps.device), dim=1)


def packed(symbols: np.ndarray) -> bytes:
    """Return whole numbers (of 16 bits at most, one byte each where they fit) as entropy-coded bytes."""
    narrow = bool(np.abs(symbols).max(initial=0) <= 127)
    raw = symbols.astype("<i1" if narrow else "<i2").tobytes()
    found = []
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY):  # the second wins where most symbols are zero
        coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
        found.append(coder.compress(raw) + coder.flush())
    return bytes([narrow]) + min(found, key=len)


def unpacked(code: bytes) -> np.ndarray:
    """Return the numbers that `packed` wrote; bytes after the end of the code are passed over."""
    raw = zlib.decompressobj(-15).decompress(code[1:])
    return np.frombuffer(raw, dtype="<i1" if code[0] else "<i2")


def rounded(vectors: Tensor, steps: Tensor, predicted: Tensor | None = None) -> Tensor:
    """Return the lattice points nearest to the vectors, as whole numbers counted from those nearest to a prediction.

    A prediction makes the numbers small and costs no exactness: the point itself does not depend on it.
    """
    points = (vectors / steps).round()
    if predicted is not None:
        points = points - (predicted / steps).round()
    return points.clamp(-32768, 32767).to(torch.int16)


def located(symbols: Tensor, steps: Tensor, predicted: Tensor | None = None) -> Tensor:
    """Return the lattice points of whole numbers that `rounded` returned: its inverse."""
    points = symbols.to(torch.float32)
    if predicted is not None:
        points = points + (predicted / steps).round()
    return points * steps
