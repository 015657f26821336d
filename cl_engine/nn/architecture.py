"""What a network plug-in is: options, and a way to build the module."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from cl_engine.options import Configured


class Architecture(Configured, ABC):
    """A family of networks; its options are keys of the table ``[net]`` beside ``name``."""

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a freshly initialised module from inputs ``[N, *input_shape]`` to logits ``[N, outputs]``.

        It ends with ``nn.Linear``, which becomes the head.
        """
