"""Training on everything at once: the upper bound."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Experience, Stream
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import RowsBeside
from cl_engine.training.rehearsal import group_name, group_of, keep_rows, kept_rows, rows_fitted_together
from cl_engine.training.sampled_fit import Sampling, sampled_fit


class Joint(Strategy):
    """Joint training: after each experience a new net is trained on all data so far, which are kept and counted.

    The usual upper bound, where its one net of the scenario's size has room for all tasks: in a small net many unlike
    tasks may stay below ``independent``, which has a net for each. Its cost grows with the square of the number of tasks.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "joint", **{"train.epochs": 3})
    >>> experiment.resolved["train"]["epochs"]
    3
    """

    shared = SharedNet()
    rowwise = True
    validates = False
    cost = "growing"

    practice: Sampling
    _references: Tensor | None = None

    def check_stream(self, stream: Stream) -> None:
        self._references = self.practice.references(stream)

    def start(self) -> State:
        return self.shared.start()

    def learn(self, experience: Experience) -> Learning:
        group = group_of(self.target_of, experience.task_id)
        keep_rows(self.state, group_name("data", group), experience.train, experience.task_id)
        kept = kept_rows(self.state, "data")
        own = kept.pop(group)
        last = max(int(t.max()) for *_, t in (own, *kept.values()))
        tasks = torch.arange(last + 1, device=own[2].device)
        params, logits = self.shared.of_tasks(tasks, fresh=True), self.shared.logits_at(experience.task_id)
        beside = [RowsBeside(rows, self.shared.loss_of(self.target_of(group))) for group, rows in kept.items()]
        trained = yield from sampled_fit(
            self,
            self.practice,
            params,
            self.shared.task_loss,
            experience,
            tasks=tasks,
            answers=self.shared.task_logits,
            references=self._references,
            rows=own,
            beside=beside,
            logits=logits,
        )
        self.shared.keep_tasks(tasks, trained)

    def fitted_groups(self, rows: Sequence[int], asked: Sequence[str]) -> Sequence[Sequence[int]]:
        return rows_fitted_together(rows, asked)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)
