"""Label functions: questions about the inputs of a source that are answered by computing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.options import Configured, option

MEASURED = 20_000  # rows that quarters are found from, at the most


class LabelFunction(Configured, ABC):
    """A question about inputs, and the answers to it: a task that needs no labels but those a source has, or none.

    >>> class Bright(LabelFunction):
    ...     def prepare(self, arrays):
    ...         self.middle = np.median(arrays.train_x.reshape(len(arrays.train_x), -1).mean(axis=1))
    ...         return "classes", {"classes": 2}
    ...     def ask(self, x, y, draw):
    ...         return x, (x.float().flatten(1).mean(dim=1) > self.middle).long()
    >>> from cl_engine.testing.small import images
    >>> arrays, bright = images(), Bright()
    >>> target, options = bright.prepare(arrays)
    >>> bright.ask(torch.from_numpy(arrays.train_x), torch.from_numpy(arrays.train_y), np.random.default_rng(0))[1].unique()
    tensor([0, 1])

    Attributes:
        free: whether no person has to label anything for it.
        same_mirrored: whether the answers are the same where left and right of the image change places.
    """

    free: ClassVar[bool] = True
    same_mirrored: ClassVar[bool] = True

    @classmethod
    def name(cls) -> str:
        """Return the name of the label function: that of its file, or ``module:Class`` of one that is not the engine's own."""
        room, _, file = cls.__module__.rpartition(".")
        return file if room == "cl_engine.labels" else f"{cls.__module__}:{cls.__qualname__}"

    @abstractmethod
    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        """Look at the training rows of a source, and return the name and the options of the target.

        Raises:
            UsageError: if the question has no answer for this source.
        """

    @abstractmethod
    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs ``[N, …]`` as they are shown, and labels ``[N, …]``, for inputs and class numbers of the source."""

    def need_images(self, arrays: Arrays, channels: int | None = None) -> tuple[int, int, int]:
        """Return channels, height and width of a source's images.

        Raises:
            UsageError: if it has none, or not of this many channels.
        """
        shape = arrays.train_x.shape[1:]
        if len(shape) != 3 or channels not in (None, shape[0]):
            wanted = f"images of {channels} channels" if channels else "images"
            raise UsageError(f"the view '{self.name()}' needs {wanted}; the inputs of the source have shape {shape}")
        return int(shape[0]), int(shape[1]), int(shape[2])


def grey(x: Tensor) -> Tensor:
    """Return images ``[N, C, H, W]`` in grey ``[N, 1, H, W]``, float32: the mean of their channels."""
    return x.float().mean(dim=1, keepdim=True)


def slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return how brightness ``[N, 1, H, W]`` changes to the right and downwards, a pixel, by Sobel's operator."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device) / 8
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel[None, None]), F.conv2d(padded, kernel.T.contiguous()[None, None])


def quartiles(values: np.ndarray) -> np.ndarray:
    """Return the three numbers between the quarters of ``values [N]``."""
    return np.asarray(np.quantile(values, (0.25, 0.5, 0.75)))


def quarter_of(values: Tensor, bounds: np.ndarray) -> Tensor:
    """Return which of the four quarters ``values [N]`` are in."""
    return torch.bucketize(values.double(), torch.from_numpy(bounds).to(values.device), right=True)


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return second central moments of the brightness of images: across, upright, and mixed, in pixels², ``[N]`` each."""
    light = grey(x)[:, 0].double()
    weight = light.sum(dim=(1, 2)).clamp_min(1e-9)
    rows, columns = (torch.arange(size, dtype=torch.float64, device=x.device) for size in light.shape[1:])
    y, across = rows[None, :, None], columns[None, None, :]
    mean_y, mean_x = ((light * at).sum(dim=(1, 2)) / weight for at in (y, across))
    off_y, off_x = y - mean_y[:, None, None], across - mean_x[:, None, None]
    xx, yy, xy = ((light * part).sum(dim=(1, 2)) / weight for part in (off_x**2, off_y**2, off_x * off_y))
    return xx, yy, xy


class DigitRule(LabelFunction):
    """A question about the digit that is written: the answer to each of the ten.

    >>> class Odd(DigitRule):
    ...     answers = (0, 1, 0, 1, 0, 1, 0, 1, 0, 1)
    >>> Odd().ask(torch.zeros(2, 1, 8, 8), torch.tensor([4, 7]), np.random.default_rng(0))[1]
    tensor([0, 1])
    """

    free = False
    answers: ClassVar[tuple[int, ...]]

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        if arrays.classes != 10:
            raise UsageError(f"the view '{self.name()}' is about ten digits; the source has {arrays.classes} classes")
        if arrays.digits is False:
            raise UsageError(
                f"the view '{self.name()}' is about ten digits; the classes of the source are something else"
            )
        return "classes", {"classes": max(self.answers) + 1}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, torch.tensor(self.answers, device=y.device)[y]


class Quantity(LabelFunction):
    """A question about a number that can be computed from an image: in which quarter of all it is, or the number itself.

    The quarters are those of the training rows.

    >>> from cl_engine.testing.small import images
    >>> class Light(Quantity):
    ...     def quantity(self, x):
    ...         return grey(x).flatten(1).mean(dim=1)
    >>> light = Light()
    >>> light.prepare(images())
    ('classes', {'classes': 4})
    """

    asked: Literal["quarter", "number"] = option(
        "quarter", "the quarter of all that the quantity is in, or the number itself"
    )

    @abstractmethod
    def quantity(self, x: Tensor) -> Tensor:
        """Return the quantity of images ``[N, C, H, W]``, ``[N]``."""

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        self.need_images(arrays)
        few = np.array(arrays.train_x[:: -(-len(arrays.train_x) // MEASURED)])
        self._bounds = quartiles(self.quantity(torch.from_numpy(few)).double().numpy())
        return ("classes", {"classes": 4}) if self.asked == "quarter" else ("numbers", {"numbers": 1})

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        values = self.quantity(x)
        return x, quarter_of(values, self._bounds) if self.asked == "quarter" else values.float().unsqueeze(1)
