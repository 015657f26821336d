"""The layout of images and kernels in memory that convolutions are fastest with."""

from __future__ import annotations

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """Return images or kernels ``[N, C, H, W]`` with the channels of a pixel next to each other in memory.

    Unlike ``contiguous(memory_format=…)``, which leaves one channel with strides that convolutions read as channels first.
    """
    there = x.stride(1) == 1 and x.is_contiguous(memory_format=torch.channels_last)
    return x if there else x.clone(memory_format=torch.channels_last)
