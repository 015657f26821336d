"""By how many quarter turns an image is turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError


class Rotation(LabelFunction):
    """By how many quarter turns, drawn for each image, it is turned (Gidaris, Singh & Komodakis 2018).

    >>> Rotation.free
    True
    """

    same_mirrored = False

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        _, height, width = self.need_images(arrays)
        if height != width:
            raise UsageError(f"the view 'rotation' needs images as wide as high, found {height} × {width}")
        return "classes", {"classes": 4}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        turns = torch.from_numpy(draw.integers(0, 4, len(x))).to(x.device)
        turned = x.clone()
        for quarter in (1, 2, 3):
            turned[turns == quarter] = x[turns == quarter].rot90(quarter, (2, 3))
        return turned, turns
