"""The multi-layer perceptron."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from cl_engine.nn.activations import KINDS, MEANING, Activation, given, narrowed, width_share
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class Mlp(Architecture):
    """MLP: fully connected layers, with ReLU between them unless asked for otherwise, inputs flattened.

    >>> module = Mlp().build((1, 28, 28), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    269322
    """

    hidden: list[Annotated[int, Field(ge=1)]] = option([256, 256], "widths of the hidden layers", max_length=1000)
    norm: Literal["none", "batch", "layer"] = option(
        "none", "normalisation before each activation: none, batch or layer"
    )
    activation: Activation = option("relu", MEANING, before="relu")
    dropout: float = option(0.0, "share of hidden units dropped while training", ge=0, lt=1)

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        width, numbers = math.prod(input_shape), given(self.activation)
        first = width

        def weights(share: float, numbers: int) -> int:
            reads = [first, *(numbers * narrowed(size, share) for size in self.hidden)]
            gives = [*(narrowed(size, share) for size in self.hidden), outputs]
            return sum((read + 1) * size for read, size in zip(reads, gives, strict=True))

        share = width_share(self.activation, weights)
        for size in (narrowed(size, share) for size in self.hidden):
            layers.append(nn.Linear(width, size))
            if self.norm != "none":
                layers.append(nn.BatchNorm1d(size) if self.norm == "batch" else nn.LayerNorm(size))
            layers.append(KINDS[self.activation]())
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width = numbers * size
        return nn.Sequential(*layers, nn.Linear(width, outputs))
