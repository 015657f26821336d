"""An encoder with a decoder, for targets of places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.nn.architecture import Architecture
from cl_engine.nn.encoders import BLOCKS, Encoder, EncoderKind, Norm
from cl_engine.options import option


class Unet(Architecture):
    """U-Net: an encoder, and a decoder that takes up the maps of every stage again, to full size (Ronneberger et al. 2015).

    The head is a 1 × 1 convolution, read at each place.

    >>> module = Unet().build((3, 32, 32), 7)
    >>> module(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 7, 32, 32])
    """

    width: int = option(16, "feature maps of the first stage; each further one has twice as many", ge=1)
    stages: int = option(4, "stages of the encoder", ge=2, le=6)
    encoder: EncoderKind = option("plain", "blocks: plain, or residual as in the reduced ResNet")
    norm: Norm = option("group", "normalisation: batch, group (of four) or none")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        return _Unet(input_shape[0], outputs, self)


class _Unet(nn.Module):
    """What is cut into modules at ``stages``."""

    def __init__(self, channels: int, outputs: int, how: Unet) -> None:
        super().__init__()
        self.encoder = Encoder(how.encoder, channels, how.width, how.stages, how.norm)
        widths = self.encoder.widths
        block = BLOCKS[how.encoder]
        self.decoder = nn.ModuleList(
            [block(deep + wide, wide, 1, how.norm) for wide, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)]
        )
        self.head = nn.Conv2d(widths[0], outputs, 1)
        deep, up = range(len(widths)), range(len(widths) - 1)
        self.stages = (*((f"encoder.blocks.{k}",) for k in deep), *((f"decoder.{k}",) for k in up))

    def forward(self, x: Tensor) -> Tensor:
        *skipped, deepest = self.encoder(x)
        for block, beside in zip(self.decoder, reversed(skipped), strict=True):
            grown = F.interpolate(deepest, size=beside.shape[2:], mode="bilinear", align_corners=False)
            deepest = block(torch.cat([beside, grown], dim=1))
        return self.head(deepest)  # type: ignore[no-any-return]
