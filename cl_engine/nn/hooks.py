"""Functions that change what a layer of a net gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Hook = Callable[[nn.Module, Any, Tensor], Tensor]


def gating(gate: Tensor) -> Hook:
    """Return a hook that multiplies the outputs of a layer by factors ``[units]``."""

    def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * gate.reshape(-1, *[1] * (output.ndim - 2))

    return hook
