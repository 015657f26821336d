"""GDumb: a greedy memory in equal shares a class, and a net that learns from it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import Target, of_rows
from cl_engine.nn.task_heads import head_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import other_than_classes
from cl_engine.training.distillation import ABSENT
from cl_engine.training.row_memory import MemorySize, RowsKept, rows_together


class Gdumb(Strategy):
    """GDumb: rows are kept greedily in equal shares a class, and a new net learns from them alone (Prabhu et al. 2020).

    After every experience the net is trained from its first weights on the memory, ``passes`` times; nothing else outlives it. So
    neither boundaries between tasks nor their order matter to the learner, only which rows are kept. Two things differ from the
    paper's algorithm 1: a row is kept while there are free places, and the rate of learning follows the scenario's options; rows
    are not mixed (CutMix).

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "gdumb", samples=200, passes=30).resolved["strategy"]["passes"]
    30
    """

    shared = SharedNet()
    rowwise = True
    takes_arrivals = True
    needs_boundaries = False

    size: MemorySize
    passes: int | None = option(None, "passes over the memory; left out: train.epochs", ge=1)
    _tasks: int = 0  # whose heads are fitted

    def start(self) -> State:
        return {**self.shared.start(), **RowsKept.start()}

    def check_targets(self, targets: Sequence[Target]) -> None:
        odd = other_than_classes(targets)
        if odd is not None:
            raise UsageError(f"gdumb keeps equal shares of classes, and a task asks for {odd.name()}: use replay")

    def check_stream(self, stream: Stream) -> None:
        if self.train.label_smoothing:
            raise UsageError(
                "train.label_smoothing: gdumb tells the classes of a task apart alone, labels would be spread: leave it out"
            )

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return [min(self.size.samples, sum(rows[: place + 1])) for place in range(len(rows))]

    def learn(self, experience: Experience) -> Learning:
        x, y, task = experience.train.x, experience.train.y, experience.task_id
        kept = RowsKept(self, self.size, "greedy")
        new = [{"x": x, "y": y, "t": torch.full_like(y, task)} for _ in self.seeds]
        kept.take_in(experience.step, 0, new, as_they_come=bool(experience.pieces))
        memory, own_heads = self.state["memory"], "heads" in self.state
        self._tasks = max(len(self.state["heads"]), task + 1) if own_heads else 1
        tasks = torch.arange(self._tasks, device=y.device)
        known = torch.zeros(1, self._tasks, self.net.outputs, device=self.net.device)
        for place in range(self._tasks):
            known[:, place, : self.target_of(place).outputs if own_heads else None] = 1
        # a label tells the task, too, where each has a head
        labels = memory["y"] + self.net.outputs * memory["t"] if own_heads else memory["y"]
        trained = yield from self.fit(
            self.shared.of_tasks(tasks, fresh=True),
            self._loss,
            replace(experience, train=rows_together(memory, labels, x[:0], y[:0]), pieces=0),
            frozen={"known": known},
            train=self.train if self.passes is None else self.train.model_copy(update={"epochs": self.passes}),
            logits=self.shared.logits_at(task if own_heads else 0),
        )
        self.shared.keep_tasks(tasks, trained)
        yield kept.updated(experience.step, task, 0)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        heads = params.get("heads")
        own = {} if heads is None or task_id is None else head_of(heads[:, task_id])
        return self.net.all({**params["net"], **own}, x)

    def _loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        assert frozen is not None
        task, own = y // self.net.outputs, y % self.net.outputs
        outputs = of_rows(self.shared.task_logits(params, None, x, task), self.net.outputs)
        return F.cross_entropy(outputs.masked_fill(frozen["known"].index_select(0, task) <= 0, ABSENT), own)
