"""Continual hypernetworks: a net a task, made from a code of its own by one generator."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.recall.generated import GeneratedNets
from cl_engine.recall.hypernetwork import Generator, GeneratorOptions
from cl_engine.recall.manifest import Manifest
from cl_engine.strategy import Learning, Strategy


class Hypernet(Strategy):
    """Continual hypernetwork: one generator makes the net of every task from the task's code (von Oswald et al. 2020).

    Learned are the generator φ and the code of the new task, by the loss L + β/m Σ ‖h(e_k; φ*) − h(e_k; φ)‖² over m past
    codes (at most ``rehearse``, drawn anew at each step), φ* being φ before the task: no rows of the past are kept. Past
    tasks are held by that term alone, so near and not to the bit. A step costs the same however many tasks there are; a
    test of all past tasks is new after each, as φ changes.

    Different from the release: codes change the start θ₀ that the nets share, θ = θ₀ + h(e; φ), scaled tensor by tensor.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "hypernet", **{"hidden": [10, 10]})
    >>> experiment.resolved["strategy"]["hidden"]
    [10, 10]
    """

    settings = ("task",)

    heads: Literal["inside", "outside"] = option(
        "inside", "heads are made from the code, or kept beside it as they are"
    )
    generating: GeneratorOptions

    def start(self) -> State:
        return self.nets.start()

    def learn(self, experience: Experience) -> Learning:
        task, nets = experience.task_id, self.nets
        code, started = nets.first_code(experience, {0.0: nets.make})
        yield from started
        frozen = nets.frozen()
        params, told = nets.trained(task, code), nets.rehearsed(experience)
        fitted = yield from self.fit(params, self.loss, experience, frozen=frozen, loss_inputs=told)
        nets.keep(task, fitted)
        yield from nets.drifts(frozen["before"], experience)
        yield nets.bytes(experience)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        assert frozen is not None
        made = self._made(params["generator"], frozen["start"], params["code"]["code"].unsqueeze(0))[0]
        return self.net.one(self.nets.of_one(made, params.get("beside", {})), x)

    def loss(self, params: Tree, frozen: Tree | None, x: Tensor, y: Tensor, *past: Tensor) -> Tensor:
        assert frozen is not None
        loss = super().loss(params, frozen, x, y)
        if not past:
            return loss
        codes = frozen["codes"].index_select(0, torch.stack(past).long())
        before = self._generator.change(frozen["before"], codes)
        moved = self._generator.change(params["generator"], codes) - before
        return loss + self.generating.beta * moved.square().sum(dim=-1).mean()

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self.decoded(task_id), x)

    def decoded(self, task_id: int) -> Params:
        """Return the net of a task; of one not yet met the net that it would start from."""
        return self.nets.params(task_id)

    @property
    def read_by_recall(self) -> tuple[str, ...]:
        """Parts of the state that decoding reads."""
        return self.nets.read_by_recall

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        return self.net.all(self.nets.params(task_id, params["generator"]), x)

    @property
    def nets(self) -> GeneratedNets:
        """The nets of all tasks, as parts of the state."""
        return GeneratedNets(self, self._drawn, self._generator, self._made)

    @cached_property
    def _drawn(self) -> Params:
        return self.net.init(self.seeds)

    @cached_property
    def _generator(self) -> Generator:
        manifest = Manifest.of(self.net, self._drawn, heads_inside=self.heads == "inside")
        return Generator(manifest, self.generating, self.net.device)

    def _made(self, phi: Params, start: Tensor, codes: Tensor) -> Tensor:
        return start + self._generator.change(phi, codes)
