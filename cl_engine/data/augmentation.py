"""Images shown a little differently every time: moved and mirrored, a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """Crops of a padded image and mirror images, at random (as for CIFAR in He et al. 2016, section 4.2).

    >>> bool(Augmentation(crop=4, flip=0.5)), bool(Augmentation())
    (True, False)

    Attributes:
        crop: pixels of black on every side, before a part of the image's own size is cut out; 0: none.
        flip: probability that left and right change places.
    """

    crop: int = 0
    flip: float = 0.0

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip > 0

    def check(self, shape: Sequence[int]) -> None:
        """Raise a `UsageError` unless it can be done to inputs of this shape."""
        if self and len(shape) != 3:
            raise UsageError(
                f"train.crop and train.flip are for images [channels, height, width]; inputs have shape {tuple(shape)}"
            )

    def draw(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Return the change of each of ``rows`` rows, ``[rows, 3]``: shift down, shift right, whether mirrored."""
        shifts = torch.randint(2 * self.crop + 1, (rows, 2), generator=generator)
        mirrored = torch.rand(rows, 1, generator=generator) < self.flip
        return torch.cat([shifts, mirrored.to(torch.int64)], dim=1)

    def one_by_one(self, pad_value: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Return a function of one image ``[C, H, W]`` that draws from torch's global generator; None: nothing is done."""
        return (lambda x: self.applied(x.unsqueeze(0), self.draw(1), pad_value)[0]) if self else None

    def applied(self, x: Tensor, drawn: Tensor, pad_value: Tensor) -> Tensor:
        """Return images ``[N, C, H, W]`` as drawn ``[N, 3]``; ``pad_value`` ``[C, 1, 1]`` is what they are padded with."""
        n, c, height, width = x.shape
        if self.crop:
            padded = pad_value.to(x.dtype).expand(n, c, height + 2 * self.crop, width + 2 * self.crop).clone()
            padded[:, :, self.crop : self.crop + height, self.crop : self.crop + width] = x
        else:
            padded = x
        down, right, mirrored = drawn.unbind(dim=1)
        along = torch.arange(width, device=x.device)
        rows = down[:, None] + torch.arange(height, device=x.device)
        columns = right[:, None] + torch.where(mirrored[:, None] == 1, along.flip(0), along)
        number = torch.arange(n, device=x.device)[:, None, None]
        # indices with a slice between them: the axis of channels comes last, and is put back
        return padded[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def applied_to_rows(self, x: Tensor, drawn: Tensor, pad_value: Tensor) -> Tensor:
        """Return rows ``[…, C, H, W]`` as drawn ``[N, 3]``; all images of a row, which may be of several tasks, alike."""
        images = x.reshape(-1, *x.shape[-3:])
        repeated = drawn.repeat_interleave(len(images) // len(drawn), dim=0)
        return self.applied(images, repeated, pad_value).reshape(x.shape)
