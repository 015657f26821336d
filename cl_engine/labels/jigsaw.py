"""In which order the quarters of an image are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.label_function import LabelFunction
from cl_engine.data.source import Arrays

ORDERS = torch.tensor([(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0), (0, 2, 1, 3), (3, 1, 2, 0)])


class Jigsaw(LabelFunction):
    """In which of six orders, drawn for each image, its quarters are (Noroozi & Favaro 2016).

    A middle row or column of an odd number is left where it is.

    >>> ORDERS[1]
    tensor([1, 0, 3, 2])
    """

    same_mirrored = False

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        self.need_images(arrays)
        return "classes", {"classes": len(ORDERS)}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        orders = torch.from_numpy(draw.integers(0, len(ORDERS), len(x))).to(x.device)
        height, width = (size // 2 for size in x.shape[2:])
        places = [np.s_[:, :, rows, columns] for rows in _ends(height) for columns in _ends(width)]
        quarters = torch.stack([x[place] for place in places], dim=1)  # [N, 4, C, h, w]
        moved = quarters[torch.arange(len(x), device=x.device)[:, None], ORDERS.to(x.device)[orders]]
        shown = x.clone()
        for number, place in enumerate(places):
            shown[place] = moved[:, number]
        return shown, orders


def _ends(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(-half, None)
