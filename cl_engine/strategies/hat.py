"""HAT: one network, and gates on its units that keep what a task uses from later ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.errors import UsageError
from cl_engine.masks.events import GatesUsed
from cl_engine.masks.gates import Gates
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.masks.thresholds import straight_through
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.early_stopping import Plateau
from cl_engine.training.fit_job import FitOptions

COSH_BOUND = 50.0  # of what cosh is taken of in the embeddings' gradient (as released)
BOUND = 6.0  # embeddings stay within ±6, where the gate's gradient has not vanished (as released)


class Hat(Strategy):
    """HAT: hard attention to the task; gates σ(s·e) on units, gradients of used weights blocked (Serrà et al. 2018).

    The slope s grows from 1/s_max to s_max within each epoch; gradients of the embeddings are compensated for it; a
    penalty keeps gates shut that no earlier task uses. Weights are blocked by what their unit and the unit they read
    are used for. Train it by plain SGD, as published: adaptive optimisers undo the blocking of weights that are used in
    part. Not as released: the learning rate follows the scenario instead of a patience rule.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "hat", **{"sparsity": 0.5})
    >>> experiment.resolved["strategy"]["sparsity"]
    0.5
    """

    settings = ("task",)

    s_max: float = option(400.0, "steepest slope of the gates; what they are tested with", gt=1)
    sparsity: float = option(0.75, "weight of the penalty on gates that no earlier task uses (λ of the paper)", ge=0)
    gradient: Literal["released", "exact"] = option(
        "released",
        "of an embedding: as the released code computes it, none where a gate is open to float32's last digit, so that the "
        "penalty cannot close it again; or the formula to its last digit (eq. 4)",
        before="exact",
    )
    clip: float | None = option(10_000.0, "greatest norm of a seed's gradients; None: any", gt=0, before=None)
    lr_patience: int | None = option(
        None,
        "epochs without a better validation loss after which the learning rate is divided by lr_factor (released: 5); "
        "left out: it follows the scenario",
        before=None,
        ge=1,
    )
    lr_factor: float = option(3.0, "what lr_patience divides the learning rate by", gt=1, before=3.0)
    lr_least: float = option(1e-4, "learning rate below which lr_patience ends a task", gt=0, before=1e-4)
    keep_best: bool = option(
        False,
        "a task keeps the weights of the epoch of least validation loss (released: true), not the last ones",
        before=False,
    )
    norm: NormPolicy = option("affine", MEANING)

    def start(self) -> State:
        seeds = len(self.seeds)
        return {
            "net": self.net.init(self.seeds),
            "embeddings": Bank.empty(seeds, (self._gates.total,), device=self.net.device),
            "heads": empty_heads(self.net, seeds),
            **self._norms.start(seeds),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        net, own = state["net"], self._norms.layout.shapes
        beside = [name for name in net if self.net.is_buffer(name) or name in own or name in (HEAD_WEIGHT, HEAD_BIAS)]
        gated = {f"{layer}.{kind}" for layer in self._gates.layers for kind in ("weight", "bias")}
        used = self._used(without=task)
        params: Tree = {
            "net": {name: net[name] for name in net if name in gated and name not in beside},
            "embedding": {"row": self._embedding(experience)},
            "norm": self._norms.trained(state, task, net),
            "head": self._head(task),
        }
        how: FitOptions = {
            "frozen": {"net": net, "used": used},
            "overrides": {"net": self.train.model_copy(update={"weight_decay": 0.0})},
            "loss_inputs": self._slope,
            "project": _bound,
            "clip": self.clip,
            **self._validated(experience),
        }
        learned = yield from self.fit(params, self.loss, experience, **how)
        state["net"] = {**net, **learned["net"]}
        state["embeddings"].put(task, learned["embedding"]["row"])
        state["heads"].put(task, row_of(learned["head"]))
        self._norms.put(state, task, learned.get("norm", {}))
        yield from self._told(experience)

    def loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, s: Tensor) -> Tensor:  # type: ignore[override]
        assert frozen is not None
        gates = self._gate(params["embedding"]["row"], s)
        free = 1 - frozen["used"]
        penalty = (gates * free).sum() / free.sum().clamp_min(1e-12)
        loss: Tensor = self.target.loss(self._answer(params, frozen, x, gates), y) + self.sparsity * penalty
        return loss

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        gates = torch.sigmoid(self.s_max * params["embedding"]["row"])
        return self._answer(params, frozen or {}, x, gates)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        net, embeddings = self.state["net"], self.state["embeddings"]
        own = {**self._norms.of(self.state, task_id, net), **self._head(task_id)}
        if task_id >= len(embeddings):
            return self.net.all({**net, **own}, x)
        gates = self._gates.named(torch.sigmoid(self.s_max * embeddings[task_id]))
        return self.net.all({**net, **own}, x, gates=self._gates.at(gates))

    @cached_property
    def _gates(self) -> Gates:
        return Gates.of(self.net, self.net.input_shape)

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    def _validated(self, experience: Experience) -> FitOptions:
        """Return what follows the validation rows, if anything is to.

        Raises:
            UsageError: if it is, and there are none.
        """
        if self.lr_patience is None and not self.keep_best:
            return {}
        x, y = experience.validation.x, experience.validation.y
        if not len(y):
            raise UsageError(
                "hat: lr_patience and keep_best go by the loss on validation rows, and the stream sets none aside: set "
                "stream.validation, or leave them out"
            )
        options: FitOptions = {"validation": (x, y), "judge": "loss", "keep_best": self.keep_best}
        if self.lr_patience is not None:
            options["plateau"] = Plateau(self.lr_patience, self.lr_factor, self.lr_least)
        return options

    def _slope(self, epoch: int, batch: int, batches: int) -> Sequence[float]:
        """Return the slope of the gates in a batch (eq. 3)."""
        low = 1 / self.s_max
        return (low + (self.s_max - low) * (batch / (batches - 1) if batches > 1 else 1.0),)

    def _gate(self, embedding: Tensor, s: Tensor) -> Tensor:
        """Return σ(s·e) with the gradient compensated for the slope (eq. 4).

        s_max / s · (cosh(s·e) + 1) / (cosh(e) + 1) times the gradient of σ(s·e) is, exactly, that of s_max · σ(e). Computed
        in float32 as it stands, as in the released code, it is 0 where σ(s·e) rounds to 1, and small where cosh is cut off.
        """
        gate = torch.sigmoid(s * embedding)
        if self.gradient == "exact":
            even = self.s_max * torch.sigmoid(embedding)
            return gate.detach() + (even - even.detach())
        e = embedding.detach()
        slope = (s * e).clamp(-COSH_BOUND, COSH_BOUND)
        return straight_through(gate.detach(), gate, self.s_max / s * (slope.cosh() + 1) / (e.cosh() + 1))

    def _answer(self, params: Tree, frozen: Tree, x: Tensor, gates: Tensor) -> Tensor:
        used = self._gates.named(frozen["used"])
        weights = {}
        for name, weight in params["net"].items():
            fixed = weight.detach()
            weights[name] = fixed + (weight - fixed) * self._gates.open(used, name, weight)
        own = {**params.get("norm", {}), **params["head"]}
        placed = self._gates.at(self._gates.named(gates))
        return self.net.one({**frozen["net"], **weights, **own}, x, statistics=self._norms.tracking, gates=placed)

    def _used(self, without: int | None = None) -> Tensor:
        """Return how far each unit is used by any task, ``[S, units]``: the greatest of their gates."""
        rows = self.state["embeddings"].rows
        if without is not None:
            rows = torch.cat([rows[:, :without], rows[:, without + 1 :]], dim=1)
        if not rows.shape[1]:
            return torch.zeros(len(self.seeds), self._gates.total, device=self.net.device)
        return torch.sigmoid(self.s_max * rows.amax(dim=1))

    def _embedding(self, experience: Experience) -> Tensor:
        embeddings: Bank = self.state["embeddings"]
        if experience.task_id < len(embeddings):
            return embeddings[experience.task_id]
        key = experience.key
        draws = [rng.tensors(seed, "gates", key) for seed in self.seeds]
        drawn = torch.stack([torch.randn(self._gates.total, generator=draw) for draw in draws])
        return drawn.clamp(-BOUND, BOUND).to(self.net.device)

    def _head(self, task_id: int) -> Params:
        return head_for(self.state["heads"], task_id, self.state["net"])

    def _told(self, experience: Experience) -> Iterator[GatesUsed]:
        mine = self._gates.named(torch.sigmoid(self.s_max * self.state["embeddings"][experience.task_id]))
        used = self._gates.named(self._used())
        for layer, gate in mine.items():
            yield GatesUsed(
                step=experience.step,
                task_id=experience.task_id,
                part=layer,
                open=tuple((gate > 0.5).double().mean(dim=1).tolist()),
                used=tuple((used[layer] > 0.5).double().mean(dim=1).tolist()),
            )


def _bound(params: Tree) -> None:
    params["embedding"]["row"].clamp_(-BOUND, BOUND)
