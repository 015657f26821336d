"""The amount of ink."""

from __future__ import annotations

from torch import Tensor

from cl_engine.data.label_function import Quantity, grey


class Ink(Quantity):
    """The amount of ink: the sum of an image's brightness.

    >>> Ink.free
    True
    """

    def quantity(self, x: Tensor) -> Tensor:
        return grey(x).sum(dim=(1, 2, 3))
