"""Elastic weight consolidation: weights that earlier tasks need are held back, as the Fisher information tells."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import of_rows
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.targets.classes import Classes
from cl_engine.training.consolidation import (
    consolidated,
    importance_of_rows,
    keep_begun,
    of_all_seeds,
    when_begun,
)


class Ewc(Strategy):
    """EWC: one net, whose weights are drawn back the more the tasks before depend on them (Kirkpatrick et al. 2017).

    To the loss is added λ/2 Σ F (θ − θ*)², F the diagonal of the Fisher information. With ``anchor = "each"`` there is a term for
    each task, around the weights after it; their sum is a quadratic function, so that two numbers a weight stand for any number
    of tasks, exactly. With ``"last"`` there is one, around the weights after the last task, with the sum of what came before
    times ``decay`` (Schwarz et al. 2018, online EWC). Heads that belong to one task are left alone. A task whose rows arrive a
    few at a time adds its term when all have come, by the rows of its last stretch.

    >>> from cl_engine.experiment import Experiment
    >>> Experiment.of("permuted_digits", "ewc", strength=10.0).resolved["strategy"]["anchor"]
    'each'
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True

    strength: float = option(100.0, "λ: how strongly weights are drawn back", ge=0)
    anchor: Literal["each", "last"] = option("each", "what to: the weights after each task, or after the last")
    decay: float = option(1.0, "with the last: share of the importance of earlier tasks kept at a new one", ge=0, le=1)
    fisher: Literal["sampled", "labels"] = option(
        "sampled",
        "classes that gradients are taken for: drawn from what the net answers, or the labels (empirical Fisher)",
    )
    fisher_rows: int = option(200, "rows of a task that it is estimated from", ge=1)
    fisher_batch: int = option(
        1, "rows whose mean gradient is squared; more than 1 is another estimate, found in other code", ge=1, before=1
    )

    def start(self) -> State:
        return self.shared.start()

    def learn(self, experience: Experience) -> Learning:
        params = self.shared.params(experience.task_id)
        begun = when_begun(self.state, params, self._consolidated(params)) if self.anchor == "last" else {}
        frozen = None if "importance" not in self.state or not self.strength else self._quadratic(begun)
        loss = self.loss if frozen is None else self._held_back
        trained = yield from self.fit(params, loss, experience, frozen=frozen)
        self.shared.keep(experience.task_id, trained)
        if self.anchor == "last" and self.strength:
            keep_begun(self.state, begun, experience.continues)
        if self.strength and not experience.continues:
            self._remember(trained, experience)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params_midway(params, task_id), x)

    def _held_back(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of one seed: λ/2 (Σ F θ² − 2 Σ F θ* θ + c) is what the terms of all tasks add up to."""
        assert frozen is not None
        importance, pull = frozen["importance"], frozen["pull"]
        terms = [
            (importance[name] * params[name].square() - 2 * pull[name] * params[name]).sum() for name in importance
        ]
        drawn: Tensor = torch.stack(terms).sum() + frozen["constant"]
        return self.loss(params, None, x, y) + self.strength / 2 * drawn

    def _quadratic(self, params: Params) -> Tree:
        if self.anchor == "each":
            return {part: self.state[part] for part in ("importance", "pull", "constant")}
        importance = self.state["importance"]
        pull = {name: own * params[name] for name, own in importance.items()}
        constant = sum((own * params[name]).flatten(1).sum(dim=1) for name, own in pull.items())
        return {"importance": importance, "pull": pull, "constant": constant}

    def _remember(self, params: Tree, experience: Experience) -> None:
        """Add a task's term to those of the tasks before."""
        held = self._consolidated(params)
        new = of_all_seeds([self._information(params, held, experience, place) for place in range(len(self.seeds))])
        terms: dict[str, Any] = {"importance": new}
        if self.anchor == "each":
            terms["pull"] = {name: own * params[name] for name, own in new.items()}
            squares = [(own * params[name]).flatten(1).sum(dim=1) for name, own in terms["pull"].items()]
            terms["constant"] = torch.stack(squares).sum(dim=0)
        kept = self.decay if self.anchor == "last" else 1.0
        for part, own in terms.items():
            before = self.state.get(part)
            if before is None:
                self.state[part] = own
            elif isinstance(own, dict):
                self.state[part] = {name: kept * before[name] + leaf for name, leaf in own.items()}
            else:
                self.state[part] = before + own

    def _consolidated(self, params: Tree) -> list[str]:
        return consolidated(self, params)

    def _information(self, params: Tree, held: list[str], experience: Experience, place: int) -> Params:
        """Return the diagonal of the Fisher information of one seed: the mean over rows of squared gradients."""
        seed, (x, y), likelihood = self.seeds[place], experience.train.of(place), self.target.smoothed(0.0)
        draw = rng.tensors(seed, "fisher", experience.key)
        rows = torch.randperm(len(y), generator=draw)[: self.fisher_rows].to(y.device)

        def loss(outputs: Tensor, of: Tensor) -> Tensor:
            return likelihood.mean_loss(outputs, self._classes_of(outputs.detach(), y[of], draw))

        own = {name: leaf[place] for name, leaf in params.items()}
        return importance_of_rows(self.net, own, held, x, rows.split(self.fisher_batch), loss, torch.square)

    def _classes_of(self, outputs: Tensor, y: Tensor, draw: torch.Generator) -> Tensor:
        """Return labels that gradients are taken for; those there are where the task asks for something else than classes."""
        if self.fisher == "labels" or not isinstance(self.target, Classes):
            return y
        share = of_rows(outputs, self.target.outputs).softmax(dim=1)
        return torch.multinomial(share.cpu(), 1, generator=draw).squeeze(1).to(y.device)
