"""Any net behind a front end that brings images to another size, learned or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option

SLOPE = 0.2  # of all leaky ReLUs
Size = tuple[int, int]


class Resized(Architecture):
    """Resized: any net behind a front end that brings images to another size (Talebi & Milanfar 2021, arXiv 2103.09950).

    ``learned`` is the paper's: convolutions at the images' own size, bilinear interpolation of their maps, residual blocks, and
    bilinear interpolation of the image beside it all; trained by the task's loss alone. In ``learned_antialiased`` both
    interpolations are antialiased. ``strided`` convolutions shrink the image by themselves, with about as many weights.

    >>> from cl_engine.runs.plugins import net_builder
    >>> module = net_builder("resized", {"inner": "small_cnn", "size": 14}, (1, 56, 56), 10)()
    >>> sum(weight.numel() for weight in module.front.parameters())
    8897
    """

    inner: str = option(..., "the net behind the front: a name of `list nets`, or your own, as net.name")
    inner_options: dict[str, Any] = option({}, "its options")
    size: int | list[int] = option(
        ..., "height and width of what the inner net is given, or both in a list; larger than the inputs enlarges them"
    )
    front: Literal["learned", "learned_antialiased", "bilinear", "antialiased", "strided"] = option(
        "learned", "how images are brought to that size: learned, or by interpolation, or by strided convolutions"
    )
    filters: int = option(16, "feature maps of a front that learns", ge=1)
    blocks: int = option(1, "residual blocks of a front that learns; strided has one fewer", ge=1)
    zero: bool = option(
        False, "the last convolution of a learned front starts at zero: at first it is interpolation alone"
    )

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, *given = input_shape
        size = self._size()
        if self.zero and not self.front.startswith("learned"):
            raise UsageError(
                f"net.zero: a '{self.front}' front has no interpolation beside it to start as: use 'learned'"
            )
        try:
            make = self.net_builder(self.inner, self.inner_options, (channels, *size), outputs, places=self.places)
            inner = make()
        except UsageError as error:
            raise UsageError(f"net.inner: '{self.inner}': {error}") from None
        return _Resized(self._front(channels, (given[0], given[1]), size), inner)

    def _size(self) -> Size:
        sides = [self.size, self.size] if isinstance(self.size, int) else self.size
        if len(sides) != 2 or min(sides) < 1:
            raise UsageError(f"net.size: found {self.size}; allowed are a number of pixels, or [height, width]")
        return sides[0], sides[1]

    def _front(self, channels: int, given: Size, size: Size) -> nn.Module:
        if self.front == "strided":
            return _Strided(channels, self.filters, self.blocks, given, size)
        resize = partial(_resized, size=size, antialias=self.front.endswith("antialiased"))
        if not self.front.startswith("learned"):
            return _Interpolation(resize)
        return _Learned(channels, self.filters, self.blocks, resize, self.zero)


class _Resized(nn.Module):
    """What is cut into modules as the inner net is, the front being one of its own."""

    def __init__(self, front: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        self.front, self.inner = front, inner
        stages = getattr(inner, "stages", None)
        if isinstance(stages, tuple | list):
            own = [("front",)] if any(True for _ in front.parameters()) else []
            self.stages = (*own, *(tuple(f"inner.{prefix}" for prefix in prefixes) for prefixes in stages))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.front(x))  # type: ignore[no-any-return]


class _Interpolation(nn.Module):
    def __init__(self, resize: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        return self.resize(x)


class _Block(nn.Module):
    """z + BN(conv(LReLU(BN(conv(z))))) with 3 × 3 kernels."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.conv0, self.norm0 = _normalised(maps)
        self.conv1, self.norm1 = _normalised(maps)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.leaky_relu(self.norm0(self.conv0(x)), SLOPE)
        return x + self.norm1(self.conv1(inside))  # type: ignore[no-any-return]


class _Learned(nn.Module):
    """The resizer of the paper: 98cn + 10n² + 18rn² kernels, for c channels, n maps and r blocks."""

    def __init__(self, channels: int, maps: int, blocks: int, resize: Callable[[Tensor], Tensor], zero: bool) -> None:
        super().__init__()
        self.resize = resize
        self.conv0 = nn.Conv2d(channels, maps, 7, padding=3)
        self.conv1 = nn.Conv2d(maps, maps, 1)
        self.norm1 = nn.BatchNorm2d(maps)
        self.blocks = nn.Sequential(*[_Block(maps) for _ in range(blocks)])
        self.conv2, self.norm2 = _normalised(maps)
        self.out = nn.Conv2d(maps, channels, 7, padding=3)
        if zero:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        maps = F.leaky_relu(self.conv1(F.leaky_relu(self.conv0(x), SLOPE)), SLOPE)
        resized = self.resize(self.norm1(maps))
        maps = resized + self.norm2(self.conv2(self.blocks(resized)))
        return self.out(maps) + self.resize(x)  # type: ignore[no-any-return]


class _Strided(nn.Module):
    """Two strided convolutions, residual blocks, and a convolution back to the image's channels.

    Interpolation brings what whole strides leave over to the size.
    """

    def __init__(self, channels: int, maps: int, blocks: int, given: Size, size: Size) -> None:
        super().__init__()
        self.size = size
        shrinks = max(1, min(have // want for have, want in zip(given, size, strict=True)))
        first = math.isqrt(shrinks - 1) + 1  # the root, rounded up
        self.conv0, self.norm0 = nn.Conv2d(channels, maps, 7, first, padding=3), nn.BatchNorm2d(maps)
        self.conv1, self.norm1 = nn.Conv2d(maps, maps, 5, shrinks // first, padding=2), nn.BatchNorm2d(maps)
        self.blocks = nn.Sequential(*[_Block(maps) for _ in range(blocks - 1)])
        self.out = nn.Conv2d(maps, channels, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.leaky_relu(self.norm0(self.conv0(x)), SLOPE)
        found = self.out(self.blocks(F.leaky_relu(self.norm1(self.conv1(maps)), SLOPE)))
        return found if found.shape[2:] == self.size else _resized(found, self.size, antialias=False)


def _resized(x: Tensor, size: Size, antialias: bool) -> Tensor:
    """Return images of this size by bilinear interpolation, computed in float32: on a CPU torch antialiases nothing less."""
    return F.interpolate(x.float(), size=size, mode="bilinear", antialias=antialias).to(x.dtype)


def _normalised(maps: int) -> tuple[nn.Module, nn.Module]:
    """Return a 3 × 3 convolution and the normalisation that follows it."""
    return nn.Conv2d(maps, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps)
