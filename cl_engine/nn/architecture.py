"""Architectures: options, and a way to build the module."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from cl_engine.nn.initialisation import Init
from cl_engine.options import Configured, option


class Architecture(Configured, ABC):
    """A family of networks; its options are keys of the table ``[net]`` beside ``name``.

    >>> class Linear(Architecture):
    ...     def build(self, input_shape, outputs):
    ...         return nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))
    >>> Linear().build((1, 8, 8), 10)[0]
    Flatten(start_dim=1, end_dim=-1)
    """

    init: Init = option(
        "default",
        "random weights to start from: torch's default, kaiming, xavier or orthogonal (then biases are 0)",
        before="default",
    )

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a freshly initialised module from inputs ``[N, *input_shape]`` to logits ``[N, outputs]``.

        It ends with ``nn.Linear``, which becomes the head.
        """
