"""The reduced ResNet-18 of GEM."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.nn.architecture import Architecture
from cl_engine.options import option

Norm = Literal["batch", "group", "none"]


class Resnet18(Architecture):
    """Reduced ResNet-18: three times fewer feature maps than the original, first 3 × 3 (Lopez-Paz & Ranzato 2017).

    >>> module = Resnet18().build((3, 32, 32), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    1094750
    """

    width: int = option(20, "feature maps of the first stage", ge=1)
    norm: Norm = option("batch", "normalisation: batch, group or none")
    groups: int = option(4, "groups of group normalisation; must divide the width", ge=1)

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        return _ResNet(input_shape[0], outputs, self)


def _normalisation(norm: Norm, channels: int, groups: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(groups, channels) if norm == "group" else nn.Identity()


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, norm: Norm, groups: int) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=bias)
        self.norm1 = _normalisation(norm, outside, groups)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=bias)
        self.norm2 = _normalisation(norm, outside, groups)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            convolution = nn.Conv2d(inside, outside, 1, stride, bias=bias)
            self.shortcut = nn.Sequential(convolution, _normalisation(norm, outside, groups))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class _ResNet(nn.Module):
    def __init__(self, channels: int, outputs: int, how: Resnet18) -> None:
        super().__init__()
        width, norm, groups = how.width, how.norm, how.groups
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=norm == "none"), _normalisation(norm, width, groups), nn.ReLU()
        )
        blocks, inside = [], width
        for stage in range(4):
            for first in (True, False):
                outside = width * 2**stage
                blocks.append(_Block(inside, outside, 2 if first and stage else 1, norm, groups))
                inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.head, self.places = how.head_of(inside, outputs), how.places

    def forward(self, x: Tensor) -> Tensor:
        maps = self.blocks(self.stem(x))
        return self.head(maps if self.places else F.adaptive_avg_pool2d(maps, 1).flatten(1))  # type: ignore[no-any-return]
