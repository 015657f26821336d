"""The image with what is missing in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays


class InPaint(LabelFunction):
    """The image, of which a square in the middle, half as wide and high, is not shown (Pathak et al. 2016).

    >>> InPaint.free
    True
    """

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        channels, _, _ = self.need_images(arrays)
        self._fill = float(arrays.train_x.mean())
        return "number_map", {"channels": channels}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        shown = x.clone()
        hidden = np.s_[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
        shown[hidden] = self._fill
        return shown, x
