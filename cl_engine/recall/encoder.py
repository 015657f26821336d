"""An encoder: a small net that makes the code of a task from its labels, where they tell tasks apart."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import nn

from cl_engine.nn.net import Net


@cache
def encoder_of(labels: int, hidden: tuple[int, ...], code: int, device: torch.device) -> Net:
    """Return the net, as a function of its weights, that makes codes ``[n, code]`` of vectors of labels ``[n, labels]``.

    >>> encoder = encoder_of(9, (16,), 4, torch.device("cpu"))
    >>> encoder.all(encoder.init([0, 1]), torch.zeros(1, 9)).shape
    torch.Size([2, 1, 4])
    """

    def build() -> nn.Module:
        widths = [labels, *hidden]
        layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.SiLU())]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], code))

    return Net(build, (labels,), device=device)
