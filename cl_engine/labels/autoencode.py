"""The image itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays


class Autoencode(LabelFunction):
    """The image itself.

    >>> Autoencode.free
    True
    """

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        channels, _, _ = self.need_images(arrays)
        return "number_map", {"channels": channels}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, x
