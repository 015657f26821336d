"""A small convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class SmallCnn(Architecture):
    """Small CNN: 3 × 3 convolutions of constant width, each normalised, rectified and max-pooled, then the head.

    Four of 64 maps are what Vinyals et al. (2016) made the common small net for few images, and what re-implementations
    of MNTDP use (Ostapenko et al. 2021).

    >>> module = SmallCnn().build((1, 28, 28), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    112586
    """

    width: int = option(64, "maps of each convolution", ge=1)
    layers: int = option(4, "convolutions; as long as the images can be halved they are", ge=1, le=1000)
    hidden: list[int] = option([], "widths of hidden layers between the last maps and the head", before=[])
    norm: Literal["batch", "group", "none"] = option("batch", "normalisation: batch, group (of four) or none")

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(self.layers):
            layers[f"conv{number}"] = nn.Conv2d(channels, self.width, 3, padding=1)
            if self.norm != "none":
                groups = 4 if self.width % 4 == 0 else 1
                batch = self.norm == "batch"
                layers[f"norm{number}"] = nn.BatchNorm2d(self.width) if batch else nn.GroupNorm(groups, self.width)
            layers[f"relu{number}"] = nn.ReLU()
            if min(height, width) > 1:
                layers[f"pool{number}"] = nn.MaxPool2d(2)
                height, width = height // 2, width // 2
            channels = self.width
        if not self.places:
            layers["flatten"] = nn.Flatten()
            channels *= height * width
            for number, units in enumerate(self.hidden):
                layers[f"fc{number}"], layers[f"fc_relu{number}"] = nn.Linear(channels, units), nn.ReLU()
                channels = units
        layers["head"] = self.head_of(channels, outputs)
        return nn.Sequential(layers)
