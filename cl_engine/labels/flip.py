"""Whether an image is mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays


class Flip(LabelFunction):
    """Whether an image, drawn for each, is mirrored from left to right.

    >>> Flip.free
    True
    """

    same_mirrored = False

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        self.need_images(arrays)
        return "classes", {"classes": 2}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        mirrored = torch.from_numpy(draw.integers(0, 2, len(x))).to(x.device)
        return torch.where(mirrored.reshape(-1, 1, 1, 1) == 1, x.flip(3), x), mirrored
