"""Images brought to another shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
ROWS_AT_ONCE = 1024


def to_shape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Return uint8 images ``[N, C, H, W]`` as ``[N, *shape]``: resized (bilinear, antialiased), grey to colour or back.

    Grey images show the same in all channels; colour becomes luminance. Images that have the shape already stay as
    they are, bit for bit.
    """
    if tuple(x.shape[1:]) == tuple(shape):
        return x
    return torch.cat([_brought(part, shape) for part in x.split(ROWS_AT_ONCE)]) if len(x) else x.new_empty(0, *shape)


def _brought(x: Tensor, shape: Sequence[int]) -> Tensor:
    channels, *size = shape
    images = x.to(torch.float32)
    if images.shape[1] == 3 and channels == 1:
        images = (images * images.new_tensor(GREY).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    if list(images.shape[2:]) != list(size):
        images = F.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)
    if images.shape[1] == 1 and channels > 1:
        images = images.expand(-1, channels, -1, -1)
    return images.round().clamp(0, 255).to(torch.uint8)
