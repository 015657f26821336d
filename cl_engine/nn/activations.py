"""What hidden units do with their sum, by name, and how wide nets are whose units give two numbers each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "crelu"]
MEANING = (
    "what hidden units do: relu, tanh, sigmoid, leaky_relu, elu, gelu, silu, or crelu, of which a net has fewer units, so that "
    "it has about as many weights"
)


class ConcatReLU(nn.Module):
    """Concatenated ReLU: the positive parts of x and of −x, one after the other along axis 1 (Shang et al. 2016).

    >>> ConcatReLU()(torch.tensor([[1.0, -2.0]]))
    tensor([[1., 0., 0., 2.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, 2 C, …]`` for ``[N, C, …]``."""
        return torch.cat([x.relu(), (-x).relu()], dim=1)


KINDS: Mapping[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "crelu": ConcatReLU,
}


def given(activation: Activation) -> int:
    """Return how many numbers a unit gives."""
    return 2 if activation == "crelu" else 1


def width_share(activation: Activation, weights: Callable[[float, int], int]) -> float:
    """Return the share of a net's widths, in hundredths, with which it has as many weights as with units that give one number.

    It is 1 but for concatenated ReLU: nets of it are made narrower, as by Kumar, Marklund and Van Roy (2023).

    Args:
        activation: the activation.
        weights: returns the number of weights for a share of the widths and how many numbers a unit gives.
    """
    if given(activation) == 1:
        return 1.0
    wanted = weights(1.0, 1)
    return min((share / 100 for share in range(100, 0, -1)), key=lambda share: abs(weights(share, 2) - wanted))


def narrowed(width: int, share: float) -> int:
    """Return a share of a width, at least 1."""
    return max(1, round(width * share))
