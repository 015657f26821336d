"""The slant of what is drawn."""

from __future__ import annotations

from torch import Tensor

from cl_engine.data.label_function import Quantity, moments


class Slant(Quantity):
    """The slant of what is drawn: how far it moves sideways a row, c_xy / v_yy by the central moments of brightness.

    >>> Slant.free
    True
    """

    same_mirrored = False

    def quantity(self, x: Tensor) -> Tensor:
        _, upright, mixed = moments(x)
        return mixed / upright.clamp_min(1e-9)
