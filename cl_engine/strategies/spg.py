"""SPG: one network, and the gradients of its weights scaled by how little they matter to the tasks before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.masks.events import GradientsGated
from cl_engine.masks.norms import MEANING, NormPolicy, TaskNorms
from cl_engine.nn.head import HEAD, HEAD_BIAS, HEAD_WEIGHT, apply_head
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, head_of, row_of
from cl_engine.nn.units import NORMS
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy

ROWS = 512  # that gradients are taken of at once
SHUT = 0.99


class Spg(Strategy):
    """SPG: soft masks on gradients, by how much each weight matters to earlier tasks' heads and the own (Konishi et al. 2023).

    "Parameter-level soft-masking for continual learning" (ICML 2023). After a task, the gradient of its loss, and of the sum of
    what every earlier head answers to its rows, is taken for each weight and bias of the body. Standardised within a tensor, the
    size of its tanh is the weight's importance; the greatest of all tasks' so far is kept. In later tasks a weight follows 1
    minus that of its gradient, a head 1 minus the mean. Nothing is blocked for good, so there is always room, and all weights may
    be read; what earlier tasks answer may change. Train it by plain SGD, as published: adaptive optimisers undo the scaling.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "spg", **{"other_heads": False})
    >>> experiment.resolved["strategy"]["other_heads"]
    False
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"

    other_heads: bool = option(
        True, "importance to the heads of earlier tasks counts, not to the task's own loss alone"
    )
    scaled_head: bool = option(True, "a head is slowed down too, by the mean importance of all weights, as released")
    norm: NormPolicy = option("affine", MEANING)

    def start(self) -> State:
        seeds, net = len(self.seeds), self.net.init(self.seeds)
        return {
            "net": net,
            "importance": {name: torch.zeros_like(net[name]) for name in self._gated},
            "heads": empty_heads(self.net, seeds),
            **self._norms.start(seeds),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        params: Tree = {
            "net": {name: state["net"][name] for name in self._gated},
            "norm": self._norms.trained(state, task, state["net"]),
            "head": head_for(state["heads"], task, state["net"]),
        }
        learned = yield from self.fit(
            params,
            self.loss,
            experience,
            frozen={"net": state["net"], "importance": state["importance"], "head": {"importance": self._mean()}},
            overrides={"net": self.train.model_copy(update={"weight_decay": 0.0})},
        )
        state["net"] = {**state["net"], **learned["net"]}
        state["heads"].put(task, row_of(learned["head"]))
        self._norms.put(state, task, learned.get("norm", {}))
        found = [self._importance(experience, place) for place in range(len(self.seeds))]
        for name, before in state["importance"].items():
            state["importance"][name] = torch.maximum(before, torch.stack([one[name] for one in found]))
        yield from self._told(experience)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        weights = {name: _slowed(weight, frozen["importance"][name]) for name, weight in params["net"].items()}
        head = {name: _slowed(weight, frozen["head"]["importance"]) for name, weight in params["head"].items()}
        own = {**weights, **params.get("norm", {}), **head}
        return self.net.one({**frozen["net"], **own}, x, statistics=self._norms.tracking)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all({**self.state["net"], **self._own(task_id)}, x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all({**self.state["net"], **params["net"], **self._own(task_id)}, x)

    @cached_property
    def _norms(self) -> TaskNorms:
        return TaskNorms(self.net, self.norm)

    @cached_property
    def _gated(self) -> list[str]:
        """Names of the weights and biases that all tasks share and train."""
        net = self.net
        shared = [name for name in net.shapes if name not in HEAD and not net.is_buffer(name) and not net.is_held(name)]
        return [name for name in shared if not isinstance(net.owner(name), NORMS)]

    def _own(self, task_id: int) -> Params:
        net = self.state["net"]
        return {**self._norms.of(self.state, task_id, net), **head_for(self.state["heads"], task_id, net)}

    def _mean(self) -> Tensor:
        """Return the mean importance of all weights, of each seed; zeros where heads are not slowed down."""
        kept = self.state["importance"]
        if not self.scaled_head or not kept:
            return torch.zeros(len(self.seeds), device=self.net.device)
        return torch.cat([tensor.flatten(1) for tensor in kept.values()], dim=1).mean(dim=1)

    def _importance(self, experience: Experience, place: int) -> Params:
        """Return the importance of one seed's weights, for the task just learned and the heads of those before."""
        task, heads = experience.task_id, self.state["heads"]
        x, y = experience.train.of(place)
        net = {name: tensor[place].detach().clone() for name, tensor in self.state["net"].items()}
        net |= {name: tensor[place] for name, tensor in self._norms.of(self.state, task, self.state["net"]).items()}
        for name in self._gated:
            net[name].requires_grad_(True)

        def own_loss(features: Tensor, labels: Tensor) -> Tensor:
            return self.target.mean_loss(_answered(features, heads, task, place), labels) * len(labels)

        def of_head(other: int) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda features, labels: _answered(features, heads, other, place).sum()

        others = [of_head(other) for other in range(len(heads)) if other != task] if self.other_heads else []
        most: Params = {}
        for objective in (own_loss, *others):
            for name, slope in self._slopes(net, objective, x, y).items():
                size = _standardised(slope).tanh().abs()
                most[name] = torch.maximum(most[name], size) if name in most else size
        return most

    def _slopes(self, net: Params, objective: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Params:
        """Return the gradient of what is summed over all rows."""
        weights = [net[name] for name in self._gated]
        found = [torch.zeros_like(weight) for weight in weights]
        for part, labels in zip(x.split(ROWS), y.split(ROWS), strict=True):
            summed = objective(self.net.features(net, part.to(self.net.device), False), labels.to(self.net.device))
            slopes = torch.autograd.grad(summed, weights, allow_unused=True)
            found = [sofar if slope is None else sofar + slope for sofar, slope in zip(found, slopes, strict=True)]
        return dict(zip(self._gated, found, strict=True))

    def _told(self, experience: Experience) -> Iterator[GradientsGated]:
        for name, tensor in self.state["importance"].items():
            flat = tensor.flatten(1)
            yield GradientsGated(
                step=experience.step,
                task_id=experience.task_id,
                part=name,
                mean=tuple(flat.mean(dim=1).tolist()),
                shut=tuple((flat > SHUT).double().mean(dim=1).tolist()),
            )


def _answered(features: Tensor, heads: Bank, task: int, place: int) -> Tensor:
    head = head_of(heads[task][place])
    return apply_head(features, head[HEAD_WEIGHT], head[HEAD_BIAS])


def _slowed(weight: Tensor, importance: Tensor) -> Tensor:
    """Return a weight as it is, with 1 − importance of its gradient."""
    fixed = weight.detach()
    return fixed + (weight - fixed) * (1 - importance)


def _standardised(slope: Tensor) -> Tensor:
    """Return a gradient less its mean, in deviations; zeros where all of it is alike."""
    centred = slope - slope.mean()
    deviation = centred.square().sum().div(max(1, slope.numel() - 1)).sqrt()
    return torch.where(deviation > 0, centred / deviation.clamp_min(1e-30), 0.0)
