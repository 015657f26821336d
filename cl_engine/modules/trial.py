"""Trials of paths for a task, and the best of them, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.modules.candidates import Reuse
from cl_engine.modules.events import NOBODY
from cl_engine.nn.net import Params
from cl_engine.training.candidate_fit import BestFit
from cl_engine.training.early_stopping import where_seeds


@dataclass(frozen=True, eq=False)
class Trial:
    """A path to be tried: whose modules it reuses, which of them, and how the others are learned.

    >>> Trial(torch.zeros(1, 3, dtype=torch.int64), reuse=(True, True, False)).reused
    2

    Attributes:
        path: the source's modules by depth, ``[S, depths]``.
        reuse: for each depth whether the source's module is used, or a new one.
        rank: place of the source among those that were asked, the best is 0.
        source: the past task of each seed; None: there is none yet.
        own: the seeds whose trial it is ``[S]``: for others it is run beside theirs and does not count; None: all.
    """

    path: Tensor
    reuse: Reuse
    rank: int = 0
    source: tuple[int, ...] | None = None
    lr: float = 0.0
    weight_decay: float = 0.0
    own: Tensor | None = None

    @property
    def learns(self) -> bool:
        """Whether a module on the path is new, so that there is something to learn."""
        return not all(self.reuse)

    @property
    def reused(self) -> int:
        """Number of modules that are reused."""
        return sum(self.reuse)

    def only_its_own(self, numbers: Tensor, other: float) -> Tensor:
        """Return numbers of the seeds ``[S]``, another one in the place of those of seeds whose trial it is not."""
        return numbers if self.own is None else torch.where(self.own, numbers, torch.full_like(numbers, other))


class Best(BestFit):
    """Keeps the best path so far for each seed; if several are equal, the one that reuses more, then the first.

    >>> best = Best(seeds=1, depths=2, device=torch.device("cpu"))
    >>> best.try_path(Trial(torch.zeros(1, 2, dtype=torch.int64), (True, False)), {}, torch.tensor([0.8]), {})
    >>> best.accuracy
    tensor([0.8000])

    Attributes:
        path, new, source: the source's path, which depths are new ``[S, depths]``, and the past task ``[S]``.
    """

    def __init__(self, seeds: int, depths: int, device: torch.device) -> None:
        super().__init__(seeds, device)
        self.new = torch.ones(seeds, depths, dtype=torch.bool, device=device)
        self.path = torch.zeros(seeds, depths, dtype=torch.int64, device=device)
        self.source = torch.full((seeds,), NOBODY, dtype=torch.int64, device=device)

    def try_path(self, trial: Trial, params: Params, accuracy: Tensor, points: Mapping[int, Params]) -> None:
        """Take a path over for those seeds for which it is better."""
        better = self.offer(params, accuracy, points, preferred=trial.reused > (~self.new).sum(dim=1))
        new = torch.tensor([not old for old in trial.reuse], device=accuracy.device)
        self.new = where_seeds(better, new.expand_as(self.new), self.new)
        self.path = where_seeds(better, trial.path, self.path)
        if trial.source is not None:
            self.source = torch.where(better, torch.tensor(trial.source, device=better.device), self.source)


def repeated(trees: Sequence[Params]) -> Params:
    """Return trees ``{name: [S, …]}`` one behind the other, ``{name: [C·S, …]}``."""
    return {name: torch.cat([tree[name] for tree in trees]) for name in trees[0]}
