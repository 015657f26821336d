"""Averaged gradient episodic memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree, leaves_with_path, unflatten
from cl_engine.data.stream import Experience, Stream
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.rehearsing import Rehearsal, told_apart
from cl_engine.training.row_memory import RowMemory


class Agem(Strategy):
    """A-GEM: no step may raise the loss of remembered rows, to first order (Chaudhry et al. 2019, eq. 11).

    Where the gradient g of a batch and that of as many remembered rows, r, point apart (g · r < 0), the step is taken by
    g − (g · r / r · r) r. That is the gradient of the loss of the batch plus −(g · r / r · r) times that of remembered rows.
    The factor is found with BatchNorm and dropout as when tested. The memory is one of fixed size for all tasks,
    where the paper has one for each. Rows of tasks that ask for something else are learned beside, as in replay.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "agem", samples=200).resolved["strategy"]["samples"]
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

    def check_stream(self, stream: Stream) -> None:
        Rehearsal(self, self.memory).check_stream(stream)

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
        def losses(outputs: Tensor) -> Tensor:
            """Return the mean loss of new rows, and of remembered ones."""
            own = torch.stack([new, 1 - new]).to(outputs.dtype)
            return (own * self.target.losses(outputs, y)).sum(dim=1) / own.sum(dim=1)

        trained, fixed = dict[Any, Tensor](), dict[Any, Tensor]()
        for path, leaf in leaves_with_path(params):
            (fixed if self.net.is_held(path[-1]) else trained)[path] = leaf.detach()

        def of_weights(weights: dict[Any, Tensor]) -> Tensor:
            return losses(self.shared.task_logits(unflatten({**fixed, **weights}), None, x, t))

        with self.net.evaluating():
            both, back = torch.func.vjp(of_weights, trained)  # type: ignore[misc]
            g, r = (back(one)[0] for one in torch.eye(2, dtype=both.dtype, device=both.device))
        dot = torch.stack([(g[path] * r[path]).sum() for path in g]).sum()
        square = torch.stack([r[path].square().sum() for path in r]).sum()
        factor = (-dot / square.clamp_min(torch.finfo(square.dtype).tiny)).clamp_min(0).detach()
        own = new.to(both.dtype)
        rest = 1 - own
        weights = own * (len(y) / own.sum()) + factor * rest * (len(y) / rest.sum())
        return self.target.loss(self.shared.task_logits(params, frozen, x, t), y, weights)
