"""Sinusoidal representation networks: a perceptron for fields, that coordinates go into (Sitzmann et al. 2020)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from cl_engine.nn.architecture import Architecture
from cl_engine.options import option


class Siren(Architecture):
    """SIREN: fully connected layers with sines, sin(ω (W x + b)), for coordinates from −1 to 1 (Sitzmann et al. 2020).

    Weights of the first layer are drawn from ±1/n, of the others from ±√(6/n)/ω, where n are a unit's inputs and ω is that of
    the layer they are in or, of the head, that before it (section 3.2 of the paper).

    >>> module = Siren().build((2,), 1)
    >>> sum(weight.numel() for weight in module.parameters())
    1185
    """

    hidden: list[Annotated[int, Field(ge=1)]] = option([32, 32], "widths of the layers with sines", min_length=1)
    omega: float = option(30.0, "ω of the first layer: the greatest frequency that it begins with", gt=0)
    omega_hidden: float = option(
        30.0, "ω of the layers after it; weights begin the smaller, and learn the faster", gt=0
    )

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(input_shape)
        for number, size in enumerate(self.hidden):
            first = number == 0
            bound = 1 / width if first else math.sqrt(6 / width) / self.omega_hidden
            layers += [_drawn(width, size, bound), Sine(self.omega if first else self.omega_hidden)]
            width = size
        return nn.Sequential(*layers, _drawn(width, outputs, math.sqrt(6 / width) / self.omega_hidden))


class Sine(nn.Module):
    """The activation sin(ω x).

    >>> Sine(2.0)(torch.zeros(1)).item()
    0.0
    """

    def __init__(self, omega: float) -> None:
        """Take ω."""
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        """Return the sines."""
        return torch.sin(self.omega * x)


def _drawn(inputs: int, outputs: int, bound: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer
