"""Fields: every task is a picture, asked for as a function of coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from cl_engine.core import rng
from cl_engine.data.rows_of_seeds import ChosenRows, Half, Lens
from cl_engine.data.seeded_stream import SeededStream
from cl_engine.data.source import Sources
from cl_engine.errors import UsageError
from cl_engine.nn.target import Target
from cl_engine.options import option
from cl_engine.targets.numbers import Numbers


class Fields(SeededStream):
    """Fields: each task a picture, from the coordinates of a pixel to its intensity (as in Hedlin et al. 2025).

    A row is a pixel: its place ``[2]`` (down, right; from −1 to 1) and its intensity, a number a channel from 0 to 1. Pictures
    are the training images of any source, in an order that the seed draws, brought to ``size`` by the means of areas. All pixels
    are learned and all are tested, by the peak signal-to-noise ratio; the error, ``rmse``, is given beside it. Without ``n``
    there is no end: after the last picture all come again, each as a task of its own, in another order.

    >>> from cl_engine.testing.small import images
    >>> from cl_engine.testing.streams import Given
    >>> stream = Fields(Given(images()), source="given", size=4)
    >>> stream[70].train.x.shape, stream[70].train.y.shape, stream.target(70).measure.title
    (torch.Size([16, 2]), torch.Size([16, 1]), 'psnr (dB)')
    """

    held_out = False  # what is learned is the picture itself

    source: str = option(..., "where pictures come from: a name of `list sources`")
    size: int | None = option(None, "rows and columns of pixels of a picture; left out: those it has", ge=1, le=1024)

    def __init__(self, data: Sources, /, device: torch.device | str = "cpu", **options: Any) -> None:
        """Build the stream over a source in ``data``, its tensors on ``device``.

        Raises:
            UsageError: for options that do not exist, or a source that has no images.
        """
        self.configure(options, "stream")
        if self.setting != "task":
            raise UsageError(
                f"stream.setting: found '{self.setting}'; fields ask for different pictures at the same coordinates, so that the "
                "task must be told: use 'task'"
            )
        arrays = data.load(self.source)
        if arrays.train_x.dtype != np.uint8 or arrays.train_x.ndim != 4:
            found = f"{arrays.train_x.dtype} of shape {arrays.train_x.shape[1:]}"
            raise UsageError(
                f"stream.source: inputs of '{self.source}' are {found}; fields are made of images, in bytes"
            )
        self.device, self._pictures, self._about = torch.device(device), arrays.train_x, arrays.about
        self.n_tasks = self.n_steps = self.n
        channels, *stored = arrays.train_x.shape[1:]
        self._shape = (self.size, self.size) if self.size else (stored[0], stored[1])
        axes = [(torch.arange(length) + 0.5) / length * 2 - 1 for length in self._shape]
        self._places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2).to(self.device)
        self._rows = torch.arange(len(self._places), device=self.device)
        self.input_shape, self.outputs, self.mean, self.std = (2,), channels, (0.0,), (1.0,)
        self._target = Numbers.of(numbers=channels, mean=[0.5], std=[0.5], measured_by="psnr")
        self.decide()

    @classmethod
    def build(cls, options: Mapping[str, Any], sources: Sources, device: torch.device | str) -> Self:
        return cls(sources, device=device, **options)

    @classmethod
    def sources_in(cls, options: Mapping[str, Any]) -> list[str]:
        return [options["source"]]

    def decide(self) -> None:
        self._orders: dict[int, np.ndarray] = {}

    def picture(self, task_id: int) -> int:
        """Return which of the source's training images a task asks for."""
        again, place = divmod(task_id, len(self._pictures))
        if again not in self._orders:
            self._orders = {again: rng.arrays(self.seed, "pictures", again).permutation(len(self._pictures))}
        return int(self._orders[again][place])

    def intensities(self, task_id: int) -> Tensor:
        """Return a task's picture ``[channels, height, width]``, from 0 to 1."""
        stored = np.array(self._pictures[self.picture(task_id)])
        return adaptive_avg_pool2d(torch.from_numpy(stored).to(self.device).float() / 255, self._shape)

    def target(self, task_id: int) -> Target:
        return self._target

    def lens(self, kind: int, half: Half = "train") -> Lens:
        return Lens()

    def rows_learned(self, task_id: int) -> tuple[ChosenRows, ChosenRows]:
        every = self.rows_tested(task_id)
        return every, ChosenRows(every.held, every.index[:0], every.y[:0])

    def rows_tested(self, task_id: int) -> ChosenRows:
        return ChosenRows(self._places, self._rows, self.intensities(task_id).flatten(1).T.contiguous())

    def train_rows(self, step: int) -> int:
        return len(self._rows)

    def test_rows(self, task_id: int) -> int:
        return len(self._rows)

    def describe(self) -> dict[str, str | int]:
        return {"source": self.source, **self._about}

    def name_of(self, task_id: int) -> str:
        return f"picture {self.picture(task_id)}"
