"""The isometric residual network of Compositional Models."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option

Norm = Literal["layer", "batch"]


class Isometric(Architecture):
    """Isometric ResNet: a patch stem, then residual blocks that all have one configuration (Zhmoginov et al. 2021).

    Blocks can take each other's place, be left out or be used again (Sandler et al. 2019, isometric nets); each has a
    normalisation in front. With patches as large as the image and a kernel of 1 it is a residual perceptron.

    >>> module = Isometric().build((3, 32, 32), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    299850
    """

    width: int = option(64, "feature maps of every block", ge=1)
    steps: int = option(4, "blocks one after the other", ge=1, le=10**4)
    patch: int = option(4, "height and width of the patches that the stem takes", ge=1)
    kernel: int = option(3, "height and width of the blocks' kernels, an odd number", ge=1)
    norm: Norm = option("layer", "normalisation before each block: layer (over all maps) or batch")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if min(input_shape[1:]) < self.patch:
            raise UsageError(f"net.patch: patches of {self.patch} do not fit inputs of shape {input_shape}")
        if self.kernel % 2 == 0:
            raise UsageError(f"net.kernel: found {self.kernel}; only odd numbers keep blocks the same size")
        return _Isometric(input_shape[0], outputs, self)


def _normalisation(norm: Norm, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(1, width)


class _Step(nn.Module):
    def __init__(self, width: int, kernel: int, norm: Norm) -> None:
        super().__init__()
        self.norm = _normalisation(norm, width)
        self.conv1 = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(self.norm(x))))  # type: ignore[no-any-return]


class _Isometric(nn.Module):
    def __init__(self, channels: int, outputs: int, how: Isometric) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, how.width, how.patch, how.patch)
        self.steps = nn.Sequential(*[_Step(how.width, how.kernel, how.norm) for _ in range(how.steps)])
        self.last = _normalisation(how.norm, how.width)
        self.head, self.places = how.head_of(how.width, outputs), how.places
        steps = [f"steps.{number}" for number in range(how.steps)]
        self.stages = (("stem",), *((step,) for step in steps[:-1]), (steps[-1], "last"))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.last(self.steps(self.stem(x)))
        return self.head(maps if self.places else F.adaptive_avg_pool2d(maps, 1).flatten(1))  # type: ignore[no-any-return]
