"""The class of the source."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError


class Classes(LabelFunction):
    """The class of the source, whatever it is.

    >>> Classes.free
    False
    """

    free = False

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        if arrays.classes < 2:
            raise UsageError(f"the view 'classes' needs two classes; the source has {arrays.classes}")
        return "classes", {"classes": arrays.classes}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, y
