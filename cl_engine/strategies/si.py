"""Synaptic intelligence: weights that lowered the losses of earlier tasks are held back."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import SharedNet
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.consolidation import consolidated, drawn_back, keep_begun, penalty_of, when_begun


class Si(Strategy):
    """SI: one net, whose weights are drawn back the more they lowered the losses before (Zenke et al. 2017, eq. 4 and 5).

    To the loss is added c Σ Ω (θ − θ*)², around the weights after the last task. A task adds to Ω what each weight did for it on
    its way, ω = −Σ g Δθ over the steps, in proportion to how far it went: ω / ((Δθ)² + ξ). g is the gradient of the task's own
    loss, without the penalty; below 0 Ω is cut off, as in the authors' code. Heads that belong to one task are left alone. A task
    whose rows arrive a few at a time adds its own when all have come.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "si", strength=1.0).resolved["strategy"]["xi"]
    0.1
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True

    strength: float = option(0.1, "c: how strongly weights are drawn back", ge=0)
    xi: float = option(0.1, "ξ: added to the square of how far a weight went, which is divided by", gt=0)
    limit: float | None = option(
        None, "greatest importance of a weight, as found in other code; left out: there is none", gt=0
    )

    def start(self) -> State:
        return self.shared.start()

    def check_stream(self, stream: Stream) -> None:
        asked = [name for name in ("clip_norm", "clip_value") if getattr(self.train, name) is not None]
        if asked and self.strength:
            raise UsageError(
                f"train.{asked[0]}: si adds up what the gradients of a task's own loss did, and clipping takes those of loss and "
                "penalty together: leave it out, or use mas or ewc"
            )

    def learn(self, experience: Experience) -> Learning:
        params = self.shared.params(experience.task_id)
        if not self.strength:
            trained = yield from self.fit(params, self.loss, experience)
            self.shared.keep(experience.task_id, trained)
            return
        names = consolidated(self, params)
        begun = when_begun(self.state, params, names)
        ways = self.state.get("ways") or {name: torch.zeros_like(params[name]) for name in names}
        steps = {
            name: {"way": ways[name], "before": params[name], "drawn": torch.zeros_like(params[name])} for name in names
        }
        frozen = penalty_of(self.state, begun)
        trained = yield from self.fit(
            {"net": params, "steps": steps}, self._loss, experience, frozen=frozen, project=follow
        )
        self.shared.keep(experience.task_id, trained["net"])
        ways = {name: step["way"] for name, step in trained["steps"].items()}
        keep_begun(self.state, begun, experience.continues)
        self.state.pop("ways", None)
        if experience.continues:
            self.state["ways"] = ways
        else:
            self._add(ways, begun, trained["net"])

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params_midway(params.get("net", params), task_id), x)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one(params.get("net", params), x)

    def _loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        own = self.loss(params, None, x, y)
        if frozen is None:
            return own
        net, anchor, importance = params["net"], frozen["anchor"], frozen["importance"]
        with torch.no_grad():  # what the penalty adds to the gradient, which is no part of the way
            for name, step in params["steps"].items():
                step["drawn"].copy_(2 * self.strength * importance[name] * (net[name] - anchor[name]))
        return own + self.strength * drawn_back(net, anchor, importance)

    def _add(self, ways: Params, begun: Params, params: Params) -> None:
        before, most = self.state.get("importance"), self.limit
        new = {name: way / ((params[name] - begun[name]).square() + self.xi) for name, way in ways.items()}
        if before is not None:
            new = {name: before[name] + leaf for name, leaf in new.items()}
        self.state["importance"] = {name: leaf.clamp(min=0, max=most) for name, leaf in new.items()}


def follow(params: Tree) -> None:
    """Add to the way of each weight what a step did for the loss, to first order; the step's gradients are still there."""
    for name, step in params["steps"].items():
        weight = params["net"][name]
        if weight.grad is not None:
            step["way"].sub_((weight.grad - step["drawn"]) * (weight - step["before"]))
            step["before"].copy_(weight)
