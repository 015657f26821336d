"""How sharply brightness changes at each place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.label_function import LabelFunction, grey, slopes
from cl_engine.data.source import Arrays


class Edges(LabelFunction):
    """How sharply brightness changes at each place: the size of its gradient by Sobel's operator.

    >>> Edges.free
    True
    """

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        self.need_images(arrays)
        return "number_map", {"channels": 1}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        across, upright = slopes(grey(x))
        return x, torch.hypot(across, upright)
