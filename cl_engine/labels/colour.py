"""The colours of an image shown in grey."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.label_function import LabelFunction, grey
from cl_engine.data.source import Arrays


class Colour(LabelFunction):
    """The colours of an image that is shown in grey (Zhang, Isola & Efros 2016).

    >>> Colour.free
    True
    """

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        self.need_images(arrays, channels=3)
        return "number_map", {"channels": 3}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        light = grey(x).expand_as(x)
        return light.round().to(x.dtype) if x.dtype == torch.uint8 else light, x
