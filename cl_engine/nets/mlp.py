"""The multi-layer perceptron."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class Mlp(Architecture):
    """MLP: fully connected layers with ReLU, inputs flattened.

    >>> module = Mlp().build((1, 28, 28), 10)
    >>> sum(weight.numel() for weight in module.parameters())
    269322
    """

    hidden: list[Annotated[int, Field(ge=1)]] = option([256, 256], "widths of the hidden layers", max_length=1000)
    norm: Literal["none", "batch", "layer"] = option("none", "normalisation before each ReLU: none, batch or layer")
    dropout: float = option(0.0, "share of hidden units dropped while training", ge=0, lt=1)

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(input_shape)
        for size in self.hidden:
            layers.append(nn.Linear(width, size))
            if self.norm != "none":
                layers.append(nn.BatchNorm1d(size) if self.norm == "batch" else nn.LayerNorm(size))
            layers.append(nn.ReLU())
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            width = size
        return nn.Sequential(*layers, nn.Linear(width, outputs))
