"""The rules that end a consolidation once recollections are good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cl_engine.options import OptionGroup, option

# recalled accuracy of the newest skill: given the seeds' positions and vectors [G, P], returns [G]
Probe = Callable[[Sequence[int], Tensor], Tensor]
WITHOUT_DATA = 0.999


@dataclass(frozen=True)
class Newest:
    """The skill learned last: its accuracy for given weights, and before encoding ``[S]``; its place among the targets.

    >>> Newest(lambda members, vectors: vectors.mean(1), torch.tensor([0.9]), place=4).place
    4
    """

    probe: Probe
    original: Tensor
    place: int


def agreement(recalled: Tensor, target: Tensor) -> Tensor:
    """Return the cosine between vectors along the last axis; 1 where both are zero."""
    dot = (recalled * target).sum(-1)
    norms = recalled.norm(dim=-1) * target.norm(dim=-1)
    return torch.where(norms > 0, dot / norms.clamp_min(1e-30), (recalled == target).all(-1).to(dot.dtype))


class StopRule(OptionGroup):
    """The rule that ends a consolidation before its last epoch.

    ``stop`` is ``cosine`` of whole weight vectors (as published), ``residual``: of what is left after the shared start is
    taken away, or ``accuracy``: of the newest skill, on its own validation rows.

    >>> StopRule(threshold=[[5, 0.99], [10, 0.98]]).wanted(skills=7)
    0.98
    """

    stop: Literal["cosine", "residual", "accuracy"] = option(
        "residual", "what ends a consolidation: cosine of nets, of what was learned, or the newest skill's accuracy"
    )
    threshold: float | list[list[float]] = option(
        0.999, "what it must reach (accuracy: what may be lost); or pairs [number of skills, threshold up to it]"
    )
    stop_on_mean: bool = option(False, "the mean over skills must reach it, rather than every skill")

    def wanted(self, skills: int) -> float:
        """Return the threshold that holds for this many skills."""
        if isinstance(self.threshold, float | int):
            return float(self.threshold)
        fitting = [value for limit, value in self.threshold if skills <= limit]
        return fitting[0] if fitting else self.threshold[-1][1]

    def reached(
        self, recalled: Tensor, targets: Tensor, centre: Tensor, members: Sequence[int], newest: Newest | None
    ) -> list[bool]:
        """Return for each seed whether its recollections ``[G, n, P]`` are near enough to the targets ``[G, n, P]``.

        Args:
            recalled: what the codes give now, after centring.
            targets: what they should give.
            centre: what was taken away from both, ``[G, P]``.
            members: the positions of these seeds among all.
            newest: how to test the newest skill; None if it is not among these (then ``accuracy`` falls back on a
                residual cosine of .999: there are no data to test with).
        """
        kind: str = self.stop
        wanted = self.wanted(targets.shape[1])
        if kind == "accuracy":
            if newest is not None:
                now = newest.probe(members, recalled[:, newest.place] + centre)
                return [bool(yes) for yes in (now >= newest.original[list(members)] - wanted).tolist()]
            kind, wanted = "residual", WITHOUT_DATA
        if kind == "cosine":
            recalled, targets = recalled + centre.unsqueeze(1), targets + centre.unsqueeze(1)
        cosines = agreement(recalled, targets)
        reached = (cosines.mean(dim=1) if self.stop_on_mean else cosines.amin(dim=1)) >= wanted
        return [bool(yes) for yes in reached.tolist()]
