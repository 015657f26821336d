"""Images shown a little differently every time: moved, mirrored and zoomed, and boxes with them, a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.errors import UsageError
from cl_engine.nn.target import Target


@dataclass(frozen=True)
class Augmentation:
    """Crops of a padded image, mirror images and zooms, at random (the first two for CIFAR in He et al. 2016, section 4.2).

    >>> bool(Augmentation(crop=4, flip=0.5)), bool(Augmentation())
    (True, False)

    Attributes:
        crop: pixels of black on every side, before a part of the image's own size is cut out; 0: none.
        flip: probability that left and right change places.
        vertical_flip: probability that top and bottom change places.
        zoom: images are shown up to 1 + this larger or smaller, about their middle, before they are cropped; 0: never.
    """

    crop: int = 0
    flip: float = 0.0
    vertical_flip: float = 0.0
    zoom: float = 0.0

    def __bool__(self) -> bool:
        return any((self.crop, self.flip, self.vertical_flip, self.zoom))

    def check(self, shape: Sequence[int]) -> None:
        """Raise a `UsageError` unless it can be done to inputs of this shape."""
        if self and len(shape) != 3:
            raise UsageError(
                f"train.crop and train.flip are for images [channels, height, width]; inputs have shape {tuple(shape)}"
            )

    def draw(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the change of each of ``rows`` rows ``[rows, 5]``: shift down and right, whether mirrored, turned over, zoom.

        Zoom is in thousandths of the factor's logarithm, so that a change is whole numbers.
        """
        shifts = torch.randint(2 * self.crop + 1, (rows, 2), generator=generator)
        mirrored = torch.rand(rows, 1, generator=generator) < self.flip
        further = torch.zeros(rows, 2, dtype=torch.int64)
        if self.vertical_flip:  # what is not asked for draws nothing, so that the rest is drawn as without it
            further[:, 0] = torch.rand(rows, generator=generator) < self.vertical_flip
        if self.zoom:
            most = round(1000 * math.log1p(self.zoom))
            further[:, 1] = torch.randint(-most, most + 1, (rows,), generator=generator)
        return torch.cat([shifts, mirrored.to(torch.int64), further], dim=1)

    def one_by_one(self, pad_value: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return a function of one image ``[C, H, W]`` that draws from torch's global generator; None: nothing is done."""
        return (lambda x: self.applied(x.unsqueeze(0), self.draw(1), pad_value)[0]) if self else None

    def applied(self, x: Tensor, drawn: Tensor, pad_value: Tensor) -> Tensor:
        """Return images ``[N, C, H, W]`` as drawn ``[N, 5]``; ``pad_value`` ``[C, 1, 1]`` is what they are padded with."""
        n, c, height, width = x.shape
        down, right, mirrored, turned, zoom = drawn.unbind(dim=1)
        if self.zoom:
            x = _zoomed(x, torch.exp(zoom / 1000), pad_value.to(x.dtype))
        if self.crop:
            padded = pad_value.to(x.dtype).expand(n, c, height + 2 * self.crop, width + 2 * self.crop).clone()
            padded[:, :, self.crop : self.crop + height, self.crop : self.crop + width] = x
        else:
            padded = x
        along, across = torch.arange(width, device=x.device), torch.arange(height, device=x.device)
        rows = down[:, None] + torch.where(turned[:, None] == 1, across.flip(0), across)
        columns = right[:, None] + torch.where(mirrored[:, None] == 1, along.flip(0), along)
        number = torch.arange(n, device=x.device)[:, None, None]
        # indices with a slice between them: the axis of channels comes last, and is put back
        return padded[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def applied_to_rows(self, x: Tensor, drawn: Tensor, pad_value: Tensor) -> Tensor:
        """Return rows ``[…, C, H, W]`` as drawn ``[N, 5]``; all images of a row, which may be of several tasks, alike."""
        images = x.reshape(-1, *x.shape[-3:])
        return self.applied(images, _of_images(drawn, len(images)), pad_value).reshape(x.shape)

    def applied_to_labels(self, target: Target, y: Tensor, drawn: Tensor, size: Sequence[int]) -> Tensor:
        """Return labels ``[…, K, D]`` of images of this height and width as drawn ``[N, 5]``, if the target's follow images."""
        if not target.follows_images:
            return y
        places = y.reshape(-1, *y.shape[-2:])
        return target.followed(places, self.moves(_of_images(drawn, len(places)), size)).reshape(y.shape)

    def moves(self, drawn: Tensor, size: Sequence[int]) -> Tensor:
        """Return where places of images go ``[N, 2, 2]``: factor and offset, in pixels, of their columns and of their rows."""
        found = []
        factor = torch.exp(drawn[:, 4] / 1000)
        for shift, mirrored, side in ((drawn[:, 1], drawn[:, 2], size[1]), (drawn[:, 0], drawn[:, 3], size[0])):
            offset = (1 - factor) * side / 2 - (shift - self.crop)
            turn = 1 - 2 * mirrored
            found.append(torch.stack([turn * factor, turn * offset + mirrored * side], dim=1))
        return torch.stack(found, dim=1)


def _of_images(drawn: Tensor, images: int) -> Tensor:
    """Return what is drawn for rows as it is for images, of which a row may have several."""
    return drawn.repeat_interleave(images // len(drawn), dim=0)


def _zoomed(x: Tensor, factor: Tensor, pad_value: Tensor) -> Tensor:
    """Return images ``[N, C, H, W]`` larger by these factors ``[N]`` about their middle, by bilinear interpolation."""
    theta = torch.zeros(len(x), 2, 3, device=x.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / factor
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    shown = F.grid_sample(x.float() - pad_value.float(), grid, align_corners=False)  # outside it is 0
    return (shown + pad_value.float()).to(x.dtype)
