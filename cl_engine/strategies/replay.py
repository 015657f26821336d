"""Experience replay: rehearsal from a memory of fixed size."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.events import Event
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.rehearsing import Rehearsal
from cl_engine.training.row_memory import RowMemory
from cl_engine.training.sampled_fit import Sampling, sampled_fit


class Replay(Strategy):
    """Experience replay: every batch is joined by as many rows from a memory of past tasks (Chaudhry et al., 2019).

    The memory has a fixed size and is filled by reservoir sampling, or class by class in equal shares (``selection``). Each seed
    keeps rows of its own choice. Where tasks ask for different things, memory and rehearsed rows are divided evenly among these.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "replay", **{"samples": 200})
    >>> experiment.resolved["strategy"]["samples"]
    200
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True
    needs_boundaries = False

    memory: RowMemory
    practice: Sampling
    _references: Tensor | None = None
    _fitted: Any = None  # of what is being fitted: tasks, those of each seed, and heads before

    def start(self) -> State:
        return {**self.shared.start(), **Rehearsal.start()}

    def check_stream(self, stream: Stream) -> None:
        Rehearsal(self, self.memory).check_stream(stream)
        self._references = self.practice.references(stream)

    def learn(self, experience: Experience) -> Learning:
        yield from Rehearsal(self, self.memory).learn(experience, self._fit)

    def _fit(self, params: Tree, experience: Experience, **options: Any) -> Generator[Event, None, Tree]:
        return sampled_fit(
            self,
            self.practice,
            params,
            self.shared.task_loss,
            experience,
            answers=self.shared.task_logits,
            references=self._references,
            **options,
        )

    @property
    def rounded(self) -> bool:
        return self.setting == "task"  # then the heads of all tasks that any seed remembers are fitted as one tensor

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return Rehearsal(self, self.memory).predict_midway(params, x, task_id)
