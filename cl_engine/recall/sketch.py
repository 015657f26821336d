"""Diagnostics: how far a recollection is from the original, without keeping the original.

The simulation wants to know the cosine to the *original* net; the learner must not. Kept is a random projection of the
original to a few numbers (CountSketch, Charikar, Chen & Farach-Colton 2002), which gives the distance to any other
vector within about √(2/width) of itself and lets nobody restore the net. It stands in the part ``diagnostics`` of the
state, is never read by recall or by learning, and is left out of the bytes of the learner that `SkillBytes` reports.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank


class Sketches:
    """Projects vectors of ``size`` numbers to ``width`` and compares recollections with them.

    >>> Sketches(size=100, width=8, device=torch.device("cpu")).of(torch.ones(1, 100), torch.zeros(1, 100)).shape
    torch.Size([1, 10])
    """

    def __init__(self, size: int, width: int, device: torch.device) -> None:
        """Draw the projection, the same for all seeds and runs."""
        draw = rng.tensors(0, "sketch", size, width)
        self.width = width
        self._bucket = torch.randint(width, (size,), generator=draw).to(device)
        self._sign = (torch.randint(2, (size,), generator=draw) * 2 - 1).to(device, torch.float32)

    def empty(self, seeds: int) -> Bank:
        """Return the bank for sketches, with none in it."""
        return Bank.empty(seeds, (self.width + 2,), device=self._sign.device)

    def of(self, vector: Tensor, centre: Tensor) -> Tensor:
        """Return the sketch ``[S, width + 2]`` of vectors ``[S, P]``, the norms with and without the centre last."""
        norms = torch.stack([(vector + centre).norm(dim=1), vector.norm(dim=1)], dim=1)
        return torch.cat([self._projected(vector), norms], dim=1)

    def cosines(self, kept: Tensor, recalled: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines ``[S]`` between an original and a recollection: of whole nets, and of what was learned.

        By the law of cosines, from exact norms and the estimated distance (which the centre leaves as it is).
        """
        distance = (self._projected(recalled) - kept[:, :-2]).square().sum(dim=1)
        found = []
        for norm, vector in ((kept[:, -2], recalled + centre), (kept[:, -1], recalled)):
            other = vector.norm(dim=1)
            both = (2 * norm * other).clamp_min(1e-30)
            found.append(((norm.square() + other.square() - distance) / both).clamp(-1, 1))
        return found[0], found[1]

    def _projected(self, vector: Tensor) -> Tensor:
        sketch = torch.zeros(len(vector), self.width, device=vector.device)
        return sketch.index_add_(1, self._bucket, vector * self._sign)
