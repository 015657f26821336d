"""Experience replay with an asymmetric cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import Target, of_rows
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.rehearsing import Rehearsal, told_apart
from cl_engine.training.row_memory import RowMemory

ABSENT = -1e9  # logit of a class that is not among those told apart


class ErAce(Strategy):
    """ER-ACE: new rows are told apart from each other alone, remembered ones from all classes (Caccia et al. 2022, eq. 4).

    A batch is joined by as many rows of the memory. The cross-entropy of its own rows is over the classes that are in it, so
    that those learned before are not pushed away; that of remembered rows is over all. Both means are added. What the paper's
    code does beside, to count classes never met among those of a batch, is not done.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "er_ace", samples=200).resolved["strategy"]["samples"]
    200
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True
    needs_boundaries = False

    memory: RowMemory
    _fitted: Any = None  # of what is being fitted: tasks, those of each seed, and heads before

    def start(self) -> State:
        return {**self.shared.start(), **Rehearsal.start()}

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None:
            raise UsageError(f"er_ace tells classes apart, and a task asks for {odd.name()}: use replay")

    def check_stream(self, stream: Stream) -> None:
        Rehearsal(self, self.memory).check_stream(stream)
        if self.train.label_smoothing:
            raise UsageError(
                "train.label_smoothing: er_ace tells new rows apart among the classes of their batch alone, and labels would be "
                "spread over the others: leave it out"
            )

    def learn(self, experience: Experience) -> Learning:
        yield from Rehearsal(self, self.memory).learn(experience, partial(told_apart, self, self._loss))

    @property
    def rounded(self) -> bool:
        return self.setting == "task"  # then the heads of all tasks that any seed remembers are fitted as one tensor

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return Rehearsal(self, self.memory).predict_midway(params, x, task_id)

    def _loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, t: Tensor, new: Tensor) -> Tensor:
        outputs = self.shared.task_logits(params, frozen, x, t)
        own, count = new.to(outputs.dtype), self.target.outputs
        remembered = self.target.loss(outputs, y, (1 - own) * (len(y) / (1 - own).sum()))
        there = (F.one_hot(y, count) * new.unsqueeze(1)).sum(dim=0) > 0
        logits = of_rows(outputs, count).masked_fill(~there, ABSENT)
        mine = F.cross_entropy(logits, y, reduction="none").where(new > 0, 0.0)
        return remembered + mine.sum() / own.sum()
