"""How much of a corner each place is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.data.label_function import LabelFunction, grey, slopes
from cl_engine.data.source import Arrays


class Corners(LabelFunction):
    """How much of a corner each place is: the smaller eigenvalue of the structure tensor, its root (Shi & Tomasi 1994).

    >>> Corners.free
    True
    """

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        self.need_images(arrays)
        return "number_map", {"channels": 1}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        across, upright = slopes(grey(x))
        xx, yy, xy = (F.avg_pool2d(part, 3, 1, 1) for part in (across**2, upright**2, across * upright))
        smaller = (xx + yy) / 2 - torch.hypot((xx - yy) / 2, xy)
        return x, smaller.clamp_min(0).sqrt()
