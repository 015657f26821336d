"""The scaling of inputs: whole numbers, as images are stored, brought to where a net wants them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cl_engine.nn.trial import example


class Scaling(nn.Module):
    """Brings inputs to float32: whole numbers by mean and standard deviation, a channel each; floats and tokens stay.

    >>> Scaling((127.5,), (127.5,), (1, 2, 2))(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)).unique()
    tensor([1.])

    Attributes:
        mean, std: in stored units, ``[C, 1, …]`` or ``[]``; they follow from the scenario, and are no part of a state_dict.
        vocabulary: number of tokens, where inputs are int64 tokens; None: they are not.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], input_shape: Sequence[int], vocabulary: int | None = None
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.register_buffer("mean", by_channel(mean, input_shape), persistent=False)
        self.register_buffer("std", by_channel(std, input_shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return inputs ``[N, …]`` as a net takes them."""
        if x.dtype == torch.float32 or (self.vocabulary is not None and x.dtype == torch.int64):
            return x
        ready = x.to(torch.float32)
        return ready if x.is_floating_point() else ready.sub_(self.mean).div_(self.std)


class Inputs:
    """The inputs of a net: their shape, how they are scaled, what padding is, and an example.

    >>> Inputs((1, 2, 2), (127.5,), (127.5,), (0.0,), torch.device("cpu")).pad_value(torch.uint8)
    tensor(-1.)

    Attributes:
        device: where they are wanted.
        input_shape: shape of an input, the axis of rows not counted.
        scaling: brings inputs to where the net wants them.
        vocabulary: number of tokens, where inputs are int64 tokens; None: they are not.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        pad_value: Sequence[float],
        device: torch.device,
        vocabulary: int | None = None,
    ) -> None:
        """Take what a stream says of its inputs: `cl_engine.nn.net.Net` says what each argument means."""
        self.device, self.input_shape, self.vocabulary = device, tuple(input_shape), vocabulary
        self.scaling = Scaling(mean, std, input_shape, vocabulary).to(device)
        self._black = by_channel(pad_value, input_shape).to(device)

    def example(self, *rows: int) -> Tensor:
        """Return inputs ``[*rows, …]`` as `prepare` leaves them, always the same, to look at what the net gives for such."""
        return example((*rows, *self.input_shape), self.vocabulary, self.device)

    def prepare(self, x: Tensor) -> Tensor:
        """Return inputs as float32, whole numbers scaled by mean and standard deviation, floats and tokens as they are."""
        ready: Tensor = self.scaling(x)
        return ready

    def pad_value(self, dtype: torch.dtype) -> Tensor:
        """Return what a black pixel of images stored in this type is to the net, ``[C, 1, 1]`` or ``[]``."""
        return self._black if dtype == torch.float32 else -self.scaling.mean / self.scaling.std


def by_channel(values: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Return numbers, a channel each, to be spread over inputs of this shape; one number stands for all channels."""
    size = [len(values), *[1] * (len(shape) - 1)] if len(values) > 1 else []
    return torch.tensor(values, dtype=torch.float32).reshape(size)
