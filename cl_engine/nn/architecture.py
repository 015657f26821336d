"""Architectures: options, and a way to build the module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import nn

from cl_engine.nn.initialisation import Init
from cl_engine.options import Configured, option


class Architecture(Configured, ABC):
    """A family of networks; its options are keys of the table ``[net]`` beside ``name``.

    An option called ``vocabulary`` that is left out is the number of tokens of the stream, where its inputs are tokens.

    >>> class Linear(Architecture):
    ...     def build(self, input_shape, outputs):
    ...         return nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))
    >>> Linear().build((1, 8, 8), 10)[0]
    Flatten(start_dim=1, end_dim=-1)

    Attributes:
        places: set before `build` is called: whether tasks ask for answers at places. A convolutional net then ends at its
            last maps, with a 1×1 convolution as its head; a net that always does need not look at it.
        reads_images: whether inputs must be images ``[channels, height, width]``.
        net_builder: set before `build` is called: builds another net by its name, as `cl_engine.runs.plugins.net_builder`.
    """

    places = False  # without an annotation, for what has one and a value is an option
    reads_images = False  # likewise
    net_builder: Callable[..., Callable[[], nn.Module]]

    init: Init = option(
        "default",
        "random weights to start from: torch's default, or kaiming, kaiming_uniform, xavier, orthogonal (then biases are 0)",
        before="default",
    )

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a freshly initialised module from inputs ``[N, *input_shape]`` to logits ``[N, outputs]``.

        It ends with ``nn.Linear``, which becomes the head; or with a 1×1 ``nn.Conv2d``, and logits are ``[N, outputs, h, w]``.
        """

    def head_of(self, width: int, outputs: int) -> nn.Module:
        """Return a head for features ``[N, width]``, or for maps ``[N, width, h, w]`` where answers are asked for at places."""
        return nn.Conv2d(width, outputs, 1) if self.places else nn.Linear(width, outputs)
