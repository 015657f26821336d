"""A net for two inputs at once, which the same first modules look at."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from cl_engine.errors import UsageError
from cl_engine.nn.architecture import Architecture
from cl_engine.options import option

Width = Annotated[int, Field(ge=1)]


class Pairs(Architecture):
    """Pairs: the same encoder for both halves of the channels, and an MLP for what it says of them (Valkov et al. 2024, BELL).

    The encoder is convolutions of 5 × 5 with stride 2, hidden layers, and a code; then come hidden layers for both codes
    together, and the head. With two convolutions, two hidden layers, the code and two more hidden layers it has eight modules,
    as published; without convolutions it is for small machines.

    >>> module = Pairs().build((2, 28, 28), 2)
    >>> sum(isinstance(layer, nn.Linear | nn.Conv2d) for layer in module.modules())
    8
    """

    maps: list[Width] = option([64, 64], "maps of each convolution of the encoder; none: it reads pixels")
    hidden: list[Width] = option([64, 64], "widths of the encoder's hidden layers")
    code: Width = option(8, "width of the encoder's output")
    after: list[Width] = option([64, 64], "widths of the hidden layers that read both codes")

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 3 or input_shape[0] % 2:
            raise UsageError(
                f"net.name: 'pairs' reads two images along the channels, found inputs of shape {list(input_shape)}: "
                "use it with the stream 'bell', or inputs of an even number of channels"
            )
        channels, *size = input_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict(apart=Apart())
        width = channels // 2
        for number, maps in enumerate(self.maps):
            layers[f"conv{number}"] = nn.Conv2d(width, maps, 5, stride=2, padding=2)
            layers[f"relu{number}"] = nn.ReLU()
            width, size = maps, [(side + 1) // 2 for side in size]
        layers["flatten"] = nn.Flatten()
        width *= math.prod(size)
        for number, units in enumerate([*self.hidden, self.code]):
            layers[f"fc{number}"], layers[f"fc_relu{number}"] = nn.Linear(width, units), nn.ReLU()
            width = units
        layers["together"] = Together()
        width *= 2
        for number, units in enumerate(self.after):
            layers[f"after{number}"], layers[f"after_relu{number}"] = nn.Linear(width, units), nn.ReLU()
            width = units
        layers["head"] = nn.Linear(width, outputs)
        return nn.Sequential(layers)


class Apart(nn.Module):
    """Puts the halves of the channels one behind the other along the rows, those of a row next to each other.

    >>> import torch
    >>> Apart()(torch.tensor([[[[1.0]], [[2.0]]]])).flatten()
    tensor([1., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[2 N, C / 2, H, W]`` for ``[N, C, H, W]``."""
        return x.reshape(2 * x.shape[0], x.shape[1] // 2, *x.shape[2:])


class Together(nn.Module):
    """Puts the codes of both halves of a row side by side.

    >>> import torch
    >>> Together()(torch.tensor([[1.0], [2.0]]))
    tensor([[1., 2.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 2 D]`` for ``[2 N, D]``."""
        return x.reshape(x.shape[0] // 2, -1)
