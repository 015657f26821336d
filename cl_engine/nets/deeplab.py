"""An encoder with dilated context, for targets of places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.nn.architecture import Architecture
from cl_engine.nn.encoders import Encoder, EncoderKind, Norm, normalisation
from cl_engine.options import option


class Deeplab(Architecture):
    """DeepLab, small: an encoder whose last stage is dilated, then context at several distances (Chen et al. 2017).

    Context is taken by a 1 × 1 and three dilated 3 × 3 convolutions and by the mean of all places, side by side. The head is a
    1 × 1 convolution, read at each place of maps a quarter as high and wide as the image; answers are brought to full size.

    >>> module = Deeplab().build((3, 32, 32), 7)
    >>> module(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 7, 8, 8])
    """

    width: int = option(16, "feature maps of the first stage; each further one has twice as many", ge=1)
    encoder: EncoderKind = option("residual", "blocks: residual as in the reduced ResNet, or plain")
    context: int = option(64, "feature maps of the context", ge=1)
    dilations: list[int] = option([2, 4, 6], "how far apart the places are that context is taken from", min_length=1)
    norm: Norm = option("group", "normalisation: batch, group (of four) or none")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        return _Deeplab(input_shape[0], outputs, self)


class _Deeplab(nn.Module):
    """What is cut into modules at ``stages``."""

    def __init__(self, channels: int, outputs: int, how: Deeplab) -> None:
        super().__init__()
        self.encoder = Encoder(how.encoder, channels, how.width, 4, how.norm, dilated=1)
        inside, bias = self.encoder.widths[-1], how.norm == "none"
        kernels = [(1, 1), *((3, dilation) for dilation in how.dilations)]
        self.context = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(inside, how.context, size, padding=dilation * (size // 2), dilation=dilation, bias=bias),
                    normalisation(how.norm, how.context),
                    nn.ReLU(),
                )
                for size, dilation in kernels
            ]
        )
        self.whole = nn.Conv2d(inside, how.context, 1)
        together = how.context * (len(kernels) + 1)
        self.mix = nn.Sequential(
            nn.Conv2d(together, how.context, 1, bias=bias), normalisation(how.norm, how.context), nn.ReLU()
        )
        self.head = nn.Conv2d(how.context, outputs, 1)
        blocks = range(len(self.encoder.widths))
        self.stages = (*((f"encoder.blocks.{k}",) for k in blocks), ("context", "whole", "mix"))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder(x)[-1]
        whole = F.relu(self.whole(maps.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, *maps.shape[2:])
        return self.head(self.mix(torch.cat([*(part(maps) for part in self.context), whole], dim=1)))  # type: ignore[no-any-return]
