"""Resolution: the same images, larger and smaller, sharper and more blurred, on a canvas of one size."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.data.images import ROWS_AT_ONCE, to_shape
from cl_engine.data.rows_of_seeds import Half
from cl_engine.data.source_stream import SourceStream
from cl_engine.errors import UsageError
from cl_engine.options import option


class Resolution(SourceStream):
    """Resolution: every task shows the whole source at its own native size and blur, on a black canvas of one size.

    Images are resized by antialiased bilinear interpolation and keep the ratio of their sides.

    >>> from cl_engine.testing.small import images
    >>> stream = Resolution(images(), source="given", canvas=12, sizes=[5, 10], blur=[0.0, 1.5])
    >>> [stream.name_of(task) for task in range(2)], stream.test(1).x.shape
    (['5 px', '10 px, blur 1.5'], torch.Size([24, 1, 12, 12]))
    """

    canvas: int = option(..., "height and width of all inputs, in pixels", ge=1, le=1024)
    sizes: int | list[int] = option(..., "the longer side of images, in pixels: of all tasks, or a list, a task each")
    blur: float | list[float] = option(
        0.0, "deviation of a Gaussian blur of the canvas, in pixels: of all tasks, or a list, a task each"
    )
    places: Literal["centre", "random"] = option(
        "centre", "where images are on the canvas: in its middle, or each at a place drawn for it"
    )

    def all_tasks(self) -> int:
        return len(self._looks())

    def prepare(self) -> None:
        looks, found = self._looks(), self.arrays.train_x
        if found.ndim != 4 or found.dtype != np.uint8:
            raise UsageError(
                f"stream.source: '{self.source}' has no images to resize, its inputs are {found.dtype} of {self.input_shape}"
            )
        if self.n is not None and self.n > len(looks):
            raise UsageError(f"stream.n: found {self.n}, and there are {len(looks)} sizes and blurs")
        for size, blur in looks:
            if not 1 <= size <= self.canvas:
                raise UsageError(f"stream.sizes: found {size}; allowed are 1 to {self.canvas}, the canvas")
            if not 0 <= _reach(blur) < self.canvas:
                raise UsageError(f"stream.blur: found {blur:g}; allowed are 0 to a third of the canvas, {self.canvas}")
        channels, *self._sides = found.shape[1:]
        self.input_shape = (channels, self.canvas, self.canvas)
        self._drawn = {
            half: rng.arrays(self.seed, "places", half).random((len(x), 2))
            for half, x in (("train", found), ("test", self.arrays.test_x))
        }

    def classes_of(self, kind: int) -> tuple[int, ...]:
        return tuple(range(self.arrays.classes))

    def global_label(self, kind: int, local: int) -> int:
        return kind * self.arrays.classes + local

    def transform_rows(self, kind: int, x: Tensor, half: Half, rows: np.ndarray) -> Tensor:
        at = self._drawn[half][rows] if self.places == "random" else np.full((len(rows), 2), 0.5)
        parts = zip(x.split(ROWS_AT_ONCE), torch.from_numpy(at).to(x.device).split(ROWS_AT_ONCE), strict=True)
        return torch.cat([self._on_canvas(kind, images, places) for images, places in parts])

    def title(self, kind: int) -> str:
        size, blur = self._looks()[kind]
        return f"{size} px, blur {blur:g}" if blur else f"{size} px"

    def _looks(self) -> list[tuple[int, float]]:
        """Return the size and the blur of each task."""
        both: list[list[Any]] = [one if isinstance(one, list) else [one] for one in (self.sizes, self.blur)]
        counts = [len(one) for one in both]
        tasks = max(counts)
        if not all(count in (1, tasks) for count in counts) or not tasks:
            raise UsageError(
                f"stream.sizes and stream.blur: found {counts[0]} and {counts[1]}; allowed are as many of both, or one"
            )
        sizes, blurs = (one * tasks if len(one) == 1 else one for one in both)
        return list(zip(sizes, blurs, strict=True))

    def _on_canvas(self, kind: int, x: Tensor, at: Tensor) -> Tensor:
        """Return images ``[N, C, H, W]`` on canvases, at these shares ``[N, 2]`` of the room that they leave."""
        size, blur = self._looks()[kind]
        height, width = (max(1, round(size * side / max(self._sides))) for side in self._sides)
        small = to_shape(x, (x.shape[1], height, width))
        canvas = x.new_zeros(len(x), *self.input_shape)
        room = torch.tensor([self.canvas - height + 1, self.canvas - width + 1], device=x.device)
        top, left = (at * room).long().T
        rows = top[:, None] + torch.arange(height, device=x.device)
        columns = left[:, None] + torch.arange(width, device=x.device)
        number = torch.arange(len(x), device=x.device)[:, None, None]
        canvas[number, :, rows[:, :, None], columns[:, None, :]] = small.permute(0, 2, 3, 1)
        if not blur:
            return canvas
        from torchvision.transforms.functional import gaussian_blur  # 1 s to import: only when used

        return gaussian_blur(canvas, 2 * _reach(blur) + 1, blur)  # type: ignore[no-any-return]


def _reach(blur: float) -> int:
    """Return how many pixels a blur reaches: three deviations."""
    return math.ceil(3 * blur)
