"""The image without the noise that is added to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays

NOISE = 0.25  # standard deviation, as a share of the range of brightness


class Denoise(LabelFunction):
    """The image without the Gaussian noise that is added to it, a quarter of the range of brightness (Vincent et al. 2008).

    >>> Denoise.free
    True
    """

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        channels, _, _ = self.need_images(arrays)
        return "number_map", {"channels": channels}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        top = 255.0 if x.dtype == torch.uint8 else 1.0
        noise = torch.from_numpy(draw.standard_normal(x.shape, dtype=np.float32)).to(x.device)
        noisy = x + NOISE * top * noise
        return noisy.clamp(0, top).round().to(x.dtype) if x.dtype == torch.uint8 else noisy, x
