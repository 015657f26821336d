"""A small convolutional network for signals."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class Cnn1d(Architecture):
    """1-D CNN: convolutions of constant width over signals ``[C, L]``, each normalised, rectified and max-pooled, then the head.

    >>> module = Cnn1d().build((2, 128), 8)
    >>> sum(weight.numel() for weight in module.parameters())
    14264
    """

    width: int = option(24, "maps of each convolution", ge=1)
    layers: int = option(4, "convolutions; as long as signals can be halved they are", ge=1, le=1000)
    kernel: int = option(7, "samples that a convolution reads, an odd number", ge=1, le=1023)
    norm: Literal["batch", "group", "none"] = option("batch", "normalisation: batch, group (of four) or none")

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 2:
            raise UsageError(
                f"net.name: 'cnn1d' reads signals of shape [channels, samples], found inputs of shape {list(input_shape)}"
            )
        if self.kernel % 2 == 0:
            raise UsageError(f"net.kernel: found {self.kernel}; use an odd number, such as {self.kernel + 1}")
        channels, length = input_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(self.layers):
            layers[f"conv{number}"] = nn.Conv1d(channels, self.width, self.kernel, padding=self.kernel // 2)
            if self.norm != "none":
                groups = 4 if self.width % 4 == 0 else 1
                batch = self.norm == "batch"
                layers[f"norm{number}"] = nn.BatchNorm1d(self.width) if batch else nn.GroupNorm(groups, self.width)
            layers[f"relu{number}"] = nn.ReLU()
            if length > 1:
                layers[f"pool{number}"] = nn.MaxPool1d(2)
                length //= 2
            channels = self.width
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(channels * length, outputs)
        return nn.Sequential(layers)
