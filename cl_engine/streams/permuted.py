"""Permuted: the same images under ever new fixed permutations of their pixels."""

from __future__ import annotations

import math

import torch

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import Half, Lens, Reordered
from cl_engine.data.source_stream import SourceStream
from cl_engine.options import option


class Permuted(SourceStream):
    """Permuted: every task is the whole source under its own pixel permutation (Goodfellow et al., 2014).

    Without ``n`` the stream has no end. Permutations depend on the stream's seed and the task alone.

    >>> from cl_engine.testing.small import images
    >>> Permuted(images(), source="given", n=3).name_of(2)
    'permutation 2'
    """

    first_plain: bool = option(True, "the first task is not permuted")

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return tuple(range(self.arrays.classes))

    def global_label(self, kind: int, local: int) -> int:
        return kind * self.arrays.classes + local

    def lens(self, kind: int, half: Half = "train") -> Lens:
        if self.first_plain and kind == 0:
            return Lens()
        pixels = math.prod(self.input_shape)
        return Reordered(torch.randperm(pixels, generator=rng.tensors(self.seed, "permutation", kind)).to(self.device))

    def title(self, kind: int) -> str:
        return "plain" if self.first_plain and kind == 0 else f"permutation {kind}"
