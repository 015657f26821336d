"""Sums of the pixels with weights that mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays

NUMBERS = 16


class Projection(LabelFunction):
    """Sixteen sums of the pixels with random weights, the same for all images: a task that teaches nothing of the world.

    >>> Projection.free
    True
    """

    same_mirrored = False

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        return "numbers", {"numbers": NUMBERS}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        weights = torch.randn(x[0].numel(), NUMBERS, generator=rng.tensors(0, "projection", x[0].numel()))
        return x, x.float().flatten(1) @ weights.to(x.device) / x[0].numel() ** 0.5
