"""A small convolutional network."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

from torch import nn

from cl_engine.nn.activations import KINDS, MEANING, Activation, given, narrowed, width_share
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
    norm: Literal["batch", "group", "layer", "none"] = option(
        "batch", "normalisation: batch, group (of four), layer, over all maps together, or none"
    )
    activation: Activation = option("relu", MEANING, before="relu")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        numbers, sizes = given(self.activation), [(height, width)]
        for _ in range(self.layers):
            halved = min(sizes[-1]) > 1
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2) if halved else sizes[-1])
        places = 1 if self.places else math.prod(sizes[-1])

        def weights(share: float, numbers: int) -> int:
            maps = narrowed(self.width, share)
            first, others = (9 * channels + 1) * maps, (9 * numbers * maps + 1) * maps
            reads, found = numbers * maps * places, first + (self.layers - 1) * others
            for units in (narrowed(units, share) for units in self.hidden if not self.places):
                reads, found = numbers * units, found + (reads + 1) * units
            return found + (reads + 1) * outputs

        share = width_share(self.activation, weights)
        maps = narrowed(self.width, share)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(self.layers):
            layers[f"conv{number}"] = nn.Conv2d(channels, maps, 3, padding=1)
            if self.norm == "batch":
                layers[f"norm{number}"] = nn.BatchNorm2d(maps)
            elif self.norm != "none":
                layers[f"norm{number}"] = nn.GroupNorm(4 if self.norm == "group" and maps % 4 == 0 else 1, maps)
            layers[f"relu{number}"] = KINDS[self.activation]()
            if sizes[number + 1] != sizes[number]:
                layers[f"pool{number}"] = nn.MaxPool2d(2)
            channels = numbers * maps
        if not self.places:
            layers["flatten"] = nn.Flatten()
            channels *= places
            for number, units in enumerate(narrowed(units, share) for units in self.hidden):
                layers[f"fc{number}"], layers[f"fc_relu{number}"] = nn.Linear(channels, units), KINDS[self.activation]()
                channels = numbers * units
        layers["head"] = self.head_of(channels, outputs)
        return nn.Sequential(layers)
