"""Outcomes of the ways to answer a task, row by row, and which sets of sources are worth trying."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from cl_engine.data.stream import Data, Experience
from cl_engine.events import Transferred
from cl_engine.nn.target import Target
from cl_engine.targets.classes import other_than_classes

ROWS_AT_ONCE = 128


class Outcomes:
    """Outcomes ``[K, N]`` of K ways to answer a task, on its N validation rows.

    >>> from cl_engine.targets.classes import Classes
    >>> rows = Data(torch.eye(2), torch.tensor([0, 0]))
    >>> Outcomes(Classes.of(classes=2), rows, lambda x: x.unsqueeze(0)).errors
    array([[0., 1.]], dtype=float32)

    Attributes:
        losses: what the target's loss says of each row.
        errors: 0 or 1 where the target is classes, whether the answer is wrong; otherwise the losses.
        scores: the target's measure ``[K]``.
    """

    def __init__(self, target: Target, rows: Data, answer: Callable[[Tensor], Tensor]) -> None:
        """Measure what ``answer``, given inputs ``[n, …]``, says: outputs ``[K, n, O, …]``."""
        losses, errors, sums, target = [], [], [], target.smoothed(0.0)
        wrong = other_than_classes([target]) is None
        for x, y in zip(rows.x.split(ROWS_AT_ONCE), rows.y.split(ROWS_AT_ONCE), strict=True):
            outputs = answer(x)
            sums.append(target.sums_by_seed(outputs, y))
            losses.append(torch.stack([target.losses(own, y) for own in outputs]))
            errors.append(torch.stack([target.answers(own) != y for own in outputs]) if wrong else losses[-1])
        self.scores: np.ndarray = target.score(np.sum(sums, axis=0))
        self.losses, self.errors = (torch.cat(parts, dim=1).float().cpu().numpy() for parts in (losses, errors))

    def told(
        self,
        place: int,
        sources: tuple[tuple[int, ...], ...],
        experience: Experience,
        task: int,
        kind: str,
        labels: int,
    ) -> Transferred:
        """Return the event of one way, at its ``place`` among ways whose seeds follow one another; ``sources`` by seed."""
        own = slice(place * len(sources), (place + 1) * len(sources))
        return Transferred(
            step=experience.step,
            task_id=task,
            sources=sources,
            kind=kind,
            labels=labels,
            score=tuple(self.scores[own].tolist()),
            losses=self.losses[own],
            errors=self.errors[own],
        )


def sets_of_sources(errors: np.ndarray, target: int, order: int, beam: int) -> list[tuple[int, ...]]:
    """Return the sets of ``order`` sources to be tried for a target: all those of the best ``beam`` single ones.

    ``errors [n, N]`` are those of the readout of each source alone, on N rows; the target itself is none. The best are those
    that lose fewest rows to the others, a tie counting half (Borda's count).

    >>> sets_of_sources(np.array([[0, 0], [1, 1], [0, 1], [9, 9]]), target=3, order=2, beam=2)
    [(0, 2)]
    """
    others = [source for source in range(len(errors)) if source != target]
    lost = [np.mean(errors[one] > errors[others]) + np.mean(errors[one] == errors[others]) / 2 for one in others]
    best = [others[place] for place in np.argsort(lost, kind="stable")[:beam]]
    return list(combinations(sorted(best), order))
