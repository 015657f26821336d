"""How wide what is drawn is against its height."""

from __future__ import annotations

from torch import Tensor

from cl_engine.data.label_function import Quantity, moments


class Aspect(Quantity):
    """How wide what is drawn is against its height, v_xx / v_yy by the central moments of brightness.

    >>> Aspect.free
    True
    """

    def quantity(self, x: Tensor) -> Tensor:
        across, upright, _ = moments(x)
        return across / upright.clamp_min(1e-9)
