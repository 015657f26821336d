"""Transformations of whole images, by which one source becomes several domains."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cl_engine.core import rng

Transform = Literal["turn", "mirror", "invert", "roll", "halve", "permute"]


def transformed(x: Tensor, transform: Transform, seed: int) -> Tensor:
    """Return uint8 images ``[N, C, H, W]``, transformed; ``seed`` fixes the permutation of pixels.

    Quarter turn (which swaps height and width), mirror, negative, roll by half the height, swap of the halves, and one
    permutation of pixels.
    """
    height, width = x.shape[2:]
    match transform:
        case "turn":
            return x.rot90(1, (2, 3))
        case "mirror":
            return x.flip(3)
        case "invert":
            return 255 - x
        case "roll":
            return x.roll(height // 2, 2)
        case "halve":
            return torch.cat([x[..., width // 2 :], x[..., : width // 2]], dim=3)
        case "permute":
            order = torch.from_numpy(rng.arrays(seed, "pixels").permutation(height * width))
            return x.flatten(2)[..., order].reshape(x.shape)
