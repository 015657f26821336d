"""Memory aware synapses: weights that answers are sensitive to are held back."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import SharedNet
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.consolidation import (
    consolidated,
    drawn_back,
    importance_of_rows,
    keep_begun,
    of_all_seeds,
    penalty_of,
    when_begun,
)


class Mas(Strategy):
    """MAS: one net, whose weights are drawn back the more its answers change with them (Aljundi et al. 2018, eq. 5).

    To the loss is added λ Σ Ω (θ − θ*)², around the weights after the last task. Ω is the mean over rows of |∂‖f(x)‖² / ∂θ|, of
    the outputs for a task's rows once it is learned, which needs no labels; those of the tasks are summed up. Heads that belong
    to one task are left alone. A task whose rows arrive a few at a time adds its own when all have come, by the rows of its last
    stretch.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "mas", average=0.5).resolved["strategy"]["average"]
    0.5
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True

    strength: float = option(1.0, "λ: how strongly weights are drawn back", ge=0)
    importance_rows: int = option(200, "rows of a task that importances are estimated from", ge=1)
    importance_batch: int = option(
        1, "rows whose mean gradient is taken the size of; more than 1 is another estimate, found in other code", ge=1
    )
    average: float | None = option(
        None,
        "share of earlier importances in a moving average over tasks, as found in other code; left out: they are summed up",
        ge=0,
        le=1,
    )

    def start(self) -> State:
        return self.shared.start()

    def learn(self, experience: Experience) -> Learning:
        params = self.shared.params(experience.task_id)
        names = consolidated(self, params)
        begun = when_begun(self.state, params, names)
        frozen = penalty_of(self.state, begun) if self.strength else None
        loss = self.loss if frozen is None else self._held_back
        trained = yield from self.fit(params, loss, experience, frozen=frozen)
        self.shared.keep(experience.task_id, trained)
        if self.strength:
            keep_begun(self.state, begun, experience.continues)
        if self.strength and not experience.continues:
            of_seeds = [self._importance(trained, names, experience, place) for place in range(len(self.seeds))]
            self._add(of_all_seeds(of_seeds))

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params_midway(params, task_id), x)

    def _held_back(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        assert frozen is not None
        drawn = drawn_back(params, frozen["anchor"], frozen["importance"])
        return self.loss(params, None, x, y) + self.strength * drawn

    def _add(self, new: Params) -> None:
        before = self.state.get("importance")
        if before is not None and self.average is not None:
            new = {name: self.average * before[name] + (1 - self.average) * leaf for name, leaf in new.items()}
        elif before is not None:
            new = {name: before[name] + leaf for name, leaf in new.items()}
        self.state["importance"] = new

    def _importance(self, params: Tree, names: list[str], experience: Experience, place: int) -> Params:
        """Return the importances of one seed: the mean over rows of the size of the gradients of its outputs' squared norm."""
        x, y = experience.train.of(place)
        draw = rng.tensors(self.seeds[place], "importance", experience.key)
        rows = torch.randperm(len(y), generator=draw)[: self.importance_rows].to(y.device)

        def norm(outputs: Tensor, of: Tensor) -> Tensor:
            return outputs[:, : self.target.outputs].flatten(1).square().sum(dim=1).mean()

        own = {name: leaf[place] for name, leaf in params.items()}
        return importance_of_rows(self.net, own, names, x, rows.split(self.importance_batch), norm, torch.abs)
