"""A cache of a frozen net's features of rows that are asked for repeatedly."""

from __future__ import annotations

import weakref
from functools import partial

import torch
from torch import Tensor

from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT, apply_head
from cl_engine.nn.net import Net, Params
from cl_engine.nn.question import Question

KEPT_BYTES = 512 * 2**20


class FrozenFeatures:
    """Answers rows with heads over a net that never changes, and keeps the net's features of tensors it has seen.

    They are kept for as long as their rows are, those that came first up to `KEPT_BYTES`: where rows are gone through in the
    same order again and again, the newest in place of the oldest would never be found.

    >>> from cl_engine.nn.net import Net
    >>> net = Net(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), (1, 2, 2))
    >>> FrozenFeatures(net).logits(net.init([0]), torch.zeros(2, 1, 2, 2)).shape
    torch.Size([1, 2, 3])
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self._kept: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._bytes = 0
        self._frozen: list[Tensor] = []  # what they were computed with

    def logits(self, params: Params, x: Tensor) -> Tensor:
        """Return logits ``[S, N, C]``, or ``[S, N, C, h, w]``; of ``params``, all but the head is frozen."""
        if isinstance(x, Question):  # whose answer is that of one net
            return self.net.all(params, x)
        features, weight, bias = self.features(params, x), params[HEAD_WEIGHT], params[HEAD_BIAS]
        if self.net.places:
            return torch.vmap(apply_head)(features, weight, bias)
        return torch.baddbmm(bias.unsqueeze(1), features, weight.transpose(1, 2))

    def features(self, params: Params, x: Tensor) -> Tensor:
        """Return what the head would read ``[S, N, width]``, or ``[S, N, width, h, w]``."""
        frozen = [tensor for name, tensor in params.items() if name not in (HEAD_WEIGHT, HEAD_BIAS)]
        if len(frozen) != len(self._frozen) or any(a is not b for a, b in zip(frozen, self._frozen, strict=True)):
            self._frozen = frozen
            for place in list(self._kept):
                self._drop(place)
        rows, features = self._kept.get(id(x), (None, x))
        if rows is not None and rows() is x:
            return features
        features = self.net.all_features(params, x)
        if self._bytes + features.nbytes <= KEPT_BYTES:
            self._kept[id(x)] = weakref.ref(x, partial(self._gone, id(x))), features
            self._bytes += features.nbytes
        return features

    def _gone(self, place: int, rows: weakref.ref[Tensor]) -> None:
        self._drop(place)

    def _drop(self, place: int) -> None:
        if place in self._kept:
            self._bytes -= self._kept.pop(place)[1].nbytes
