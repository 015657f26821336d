"""The larger of Self-Net's two LeNets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from cl_engine.nn.activations import KINDS, MEANING, Activation, given, narrowed, width_share
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class Lenet(Architecture):
    """LeNet: conv 6 and 16 with 5 × 5 kernels, max-pooled, then 120, 84 and the head (61,326 weights on CIFAR, 2 classes).

    The task network of Self-Net on CIFAR (Camp, Mandivarapu & Estrada 2020), as released, unless asked for otherwise.

    >>> module = Lenet().build((3, 32, 32), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    62006
    """

    widths: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=4, max_length=4)] = option(
        [6, 16, 120, 84], "maps of the two convolutions, and units of the two hidden layers", before=[6, 16, 120, 84]
    )
    norm: Literal["none", "layer"] = option(
        "none", "normalisation before each activation: none, or layer, of maps over all of them together", before="none"
    )
    activation: Activation = option("relu", MEANING, before="relu")

    reads_images = True

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = input_shape
        places = ((((height - 4) // 2) - 4) // 2) * ((((width - 4) // 2) - 4) // 2)

        def widths(share: float) -> list[int]:
            return [narrowed(size, share) for size in self.widths]

        def weights(share: float, numbers: int) -> int:
            one, two, three, four = widths(share)
            maps = (25 * channels + 1) * one + (25 * numbers * one + 1) * two
            if self.places:
                return maps + (numbers * two + 1) * outputs
            hidden = (numbers * two * places + 1) * three + (numbers * three + 1) * four
            return maps + hidden + (numbers * four + 1) * outputs

        one, two, three, four = widths(width_share(self.activation, weights))
        numbers = given(self.activation)
        layers = [
            *(nn.Conv2d(channels, one, 5), *self._after(one, maps=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(numbers * one, two, 5), *self._after(two, maps=True), nn.MaxPool2d(2)),
        ]
        if self.places:
            return nn.Sequential(*layers, self.head_of(numbers * two, outputs))
        layers += [nn.Flatten(), nn.Linear(numbers * two * places, three), *self._after(three)]
        layers += [nn.Linear(numbers * three, four), *self._after(four)]
        return nn.Sequential(*layers, self.head_of(numbers * four, outputs))

    def _after(self, units: int, maps: bool = False) -> list[nn.Module]:
        norm = nn.GroupNorm(1, units) if maps else nn.LayerNorm(units)
        return [*([norm] if self.norm == "layer" else []), KINDS[self.activation]()]
