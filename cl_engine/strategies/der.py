"""Dark experience replay."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.events import Event
from cl_engine.nn.shared_net import SharedNet
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import Rows
from cl_engine.training.rehearsing import Rehearsal, told_apart
from cl_engine.training.row_memory import RowMemory


class Der(Strategy):
    """DER++: remembered rows are to be answered as they were when they were learned (Buzzega et al. 2020, eq. 6).

    A batch is joined by as many rows of the memory. To the loss of its own are added α times the mean squared distance of
    the outputs of remembered rows from those kept with them, and β times the loss by their labels; DER is
    ``beta = 0``. Rows that arrive in pieces are kept with the outputs that were trained on, as in the paper; those of whole
    experiences with what they are answered once all are learned. Both terms are of the same rows, where the paper draws twice.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "der", beta=0.0).resolved["strategy"]["alpha"]
    0.1
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True
    needs_boundaries = False

    memory: RowMemory
    alpha: float = option(0.1, "α: weight of the distance from the outputs kept", ge=0)
    beta: float = option(0.5, "β: weight of the loss of remembered rows by their labels", ge=0)
    _task: int = 0  # being learned
    _fitted: Any = None  # of what is being fitted: tasks, those of each seed, and heads before

    def start(self) -> State:
        return {**self.shared.start(), **Rehearsal.start()}

    def check_stream(self, stream: Stream) -> None:
        Rehearsal(self, self.memory).check_stream(stream)

    def learn(self, experience: Experience) -> Learning:
        self._task = experience.task_id
        yield from Rehearsal(self, self.memory).learn(experience, self._fit, self._outputs)

    @property
    def rounded(self) -> bool:
        return self.setting == "task"  # then the heads of all tasks that any seed remembers are fitted as one tensor

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return Rehearsal(self, self.memory).predict_midway(params, x, task_id)

    def _fit(
        self,
        params: Tree,
        experience: Experience,
        *,
        rows: Rows,
        rehearsal: Rows | None,
        noted: Tensor | None = None,
        **options: Any,
    ) -> Generator[Event, None, Tree]:
        loss: Callable[..., Tensor] = self._loss
        if rehearsal is not None:
            kept = rehearsal[3]
            beside = kept.new_zeros(len(rows[0]), *kept.shape[2:])  # nothing is kept yet of the rows of the experience
            if noted is not None:  # rehearsed rows say where it stands what is kept of them, new ones where it will
                params, loss = {**params, "noted": noted}, self._noting
                beside = torch.arange(noted.shape[1] - len(beside), noted.shape[1], device=noted.device)
            rows = (*rows, beside)
        return told_apart(self, loss, params, experience, rows=rows, rehearsal=rehearsal, **options)

    def _loss(
        self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, t: Tensor, z: Tensor, new: Tensor
    ) -> Tensor:
        return self._judged(self.shared.task_logits(params, frozen, x, t), y, z, new)

    def _noting(
        self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, t: Tensor, place: Tensor, new: Tensor
    ) -> Tensor:
        """Return the loss, and note the outputs for rows that arrive at their places."""
        outputs = self.shared.task_logits(params, frozen, x, t)
        with torch.no_grad():
            z = params["noted"][place]
            own = new.reshape(-1, *[1] * (outputs.ndim - 1)) > 0
            params["noted"].index_put_((place,), torch.where(own, outputs.detach().to(z.dtype), z))
        return self._judged(outputs, y, z, new)

    def _judged(self, outputs: Tensor, y: Tensor, z: Tensor, new: Tensor) -> Tensor:
        own = new.to(outputs.dtype)
        rest = (1 - own) / (1 - own).sum()
        apart = (rest * (outputs - z).square().flatten(1).mean(dim=1)).sum()
        return self.alpha * apart + self.target.loss(outputs, y, len(y) * (own / own.sum() + self.beta * rest))

    def _outputs(self, place: int, x: Tensor) -> Tensor:
        """Return the outputs of one seed for rows ``[N, …]`` of the task being learned."""
        return self.of_seed(place).predict(x, self._task)[0].to(x.device)
