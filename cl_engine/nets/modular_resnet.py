"""The ResNet of CTrL and MNTDP, cut into modules."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option

STRIDES = (1, 2, 2, 2)  # of the four stages


class ModularResnet(Architecture):
    """Modular ResNet: ResNet-18 of constant width, stem, four stages of two blocks and head (Veniat et al. 2021).

    Six modules; with ``split_last`` the blocks of the last stage are modules of their own, seven in all, as in the
    authors' S_in and S_long.

    >>> module = ModularResnet().build((3, 32, 32), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    607050
    """

    width: int = option(64, "feature maps of every layer", ge=1)
    split_last: bool = option(False, "the two blocks of the last stage are two modules")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        if min(height, width) < 8:
            raise UsageError(
                f"net.name: 'modular_resnet' needs images of 8 × 8 or more, found {height} × {width}: see stream.shape"
            )
        return _ModularResnet(channels, outputs, self)


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class _ModularResnet(nn.Module):
    """What is cut into modules at ``stages``."""

    def __init__(self, channels: int, outputs: int, how: ModularResnet) -> None:
        super().__init__()
        width = how.width
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        strides = [one for stride in STRIDES for one in (stride, 1)]
        self.blocks = nn.Sequential(*[_Block(width, width, stride) for stride in strides])
        self.head, self.places = how.head_of(width, outputs), how.places
        pairs = [("blocks.0", "blocks.1"), ("blocks.2", "blocks.3"), ("blocks.4", "blocks.5")]
        last = [("blocks.6",), ("blocks.7",)] if how.split_last else [("blocks.6", "blocks.7")]
        self.stages = (("stem",), *pairs, *last)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.blocks(self.stem(x))
        return self.head(maps if self.places else F.adaptive_avg_pool2d(maps, 1).flatten(1))  # type: ignore[no-any-return]
