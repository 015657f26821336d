"""Convolutional encoders, and the blocks that they are made of."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group", "none"]
EncoderKind = Literal["plain", "residual"]


def normalisation(norm: Norm, channels: int, groups: int = 4) -> nn.Module:
    """Return a layer that normalises maps; groups fall back to one where they do not divide the channels."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(groups if channels % groups == 0 else 1, channels) if norm == "group" else nn.Identity()


class PlainBlock(nn.Module):
    """Two 3 × 3 convolutions one after the other, each normalised and rectified.

    >>> import torch
    >>> PlainBlock(3, 8, stride=2, norm="group")(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(
        self, inside: int, outside: int, stride: int = 1, norm: Norm = "batch", groups: int = 4, dilation: int = 1
    ) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, dilation, dilation, bias=bias)
        self.norm1 = normalisation(norm, outside, groups)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, dilation, dilation, bias=bias)
        self.norm2 = normalisation(norm, outside, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps ``[N, outside, H, W]`` of maps ``[N, inside, …]``, at every ``stride``-th place."""
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class ResidualBlock(PlainBlock):
    """Two 3 × 3 convolutions beside a shortcut (He et al. 2016).

    >>> import torch
    >>> ResidualBlock(3, 8, stride=2, norm="group")(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 8, 4, 4])
    """

    def __init__(
        self, inside: int, outside: int, stride: int = 1, norm: Norm = "batch", groups: int = 4, dilation: int = 1
    ) -> None:
        super().__init__(inside, outside, stride, norm, groups, dilation)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            convolution = nn.Conv2d(inside, outside, 1, stride, bias=norm == "none")
            self.shortcut = nn.Sequential(convolution, normalisation(norm, outside, groups))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps ``[N, outside, H, W]`` of maps ``[N, inside, …]``, at every ``stride``-th place."""
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


BLOCKS: dict[EncoderKind, type[ResidualBlock] | type[PlainBlock]] = {"plain": PlainBlock, "residual": ResidualBlock}


class Encoder(nn.Module):
    """Stages of blocks, each of twice the maps and, but for the first and the dilated, half the height and width.

    >>> import torch
    >>> encoder = Encoder("residual", channels=3, width=8, stages=3, norm="group")
    >>> [tuple(maps.shape[1:]) for maps in encoder(torch.zeros(1, 3, 16, 16))]
    [(8, 16, 16), (16, 8, 8), (32, 4, 4)]

    Attributes:
        widths: maps of each stage.
    """

    def __init__(self, kind: EncoderKind, channels: int, width: int, stages: int, norm: Norm, dilated: int = 0) -> None:
        """Make the stages; the last ``dilated`` of them widen their kernels in place of halving the maps."""
        super().__init__()
        self.widths = [width * 2**stage for stage in range(stages)]
        inside, blocks = channels, []
        for stage, outside in enumerate(self.widths):
            wide = max(0, stage - (stages - 1 - dilated))
            stride = 2 if stage and not wide else 1
            blocks.append(BLOCKS[kind](inside, outside, stride, norm, dilation=2**wide))
            inside = outside
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of every stage."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps
