"""Patch: a few weights a task, put into one frozen network."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.masks import guard
from cl_engine.masks.patches import Kind, PatchParts
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Params
from cl_engine.nn.task_heads import empty_heads, head_for, row_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy


class Patch(Strategy):
    """Patch: scale and shift of normalisation layers a task, and a head, over a frozen net (Mudrakarta et al. 2019).

    "K for the price of 1": a patch holds scale and shift, and BatchNorm statistics, of every normalisation layer; or
    depthwise kernels; or both. A net without normalisation gets a scale and a shift for each output of its linear and
    convolution layers. Of a net with a front, as the learned resizer of ``resized``, it may hold that: its kernels and norms.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "patch", **{"patch_lr": 0.01})
    >>> experiment.resolved["strategy"]["patch_lr"]
    0.01
    """

    settings = ("task",)
    per_seed = True

    backbone: Literal["initial", "first_task"] = option(
        "initial", "the frozen net: as the scenario starts it (random or pre-trained), or trained on the first task"
    )
    kind: Kind = option(
        "scale_bias",
        "what a patch holds: scale and shift, the kernels of depthwise layers, or both; or the net's front",
    )
    patch_lr: float | None = option(None, "learning rate of the patch; left out: that of the head", gt=0)

    def start(self) -> State:
        seeds = len(self.seeds)
        patches = Bank.empty(seeds, (self._patch.layout.size,), device=self.net.device)
        return {
            "backbone": self.net.init(self.seeds),
            **({"patches": patches} if self._patch.layout.shapes else {}),
            "heads": empty_heads(self.net, seeds),
            **self._patch.norms.start(seeds),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        if self.backbone == "first_task" and not len(state["heads"]):
            trained = yield from self.fit(state["backbone"], self.loss, experience)
            untrained = {name: state["backbone"][name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
            state["backbone"] = {**trained, **untrained}
            self._keep(task, {"patch": self._patch.identity(trained), "norm": trained, "head": trained})
            return
        params: Tree = {
            "patch": self._patch_of(task),
            "norm": self._patch.norms.trained(state, task, state["backbone"]),
            "head": self._head(task),
        }
        rates = self.train if self.patch_lr is None else self.train.model_copy(update={"lr": self.patch_lr})
        with guard.frozen(state["backbone"], "patch: the backbone"):
            learned = yield from self.fit(
                params,
                self.loss,
                experience,
                frozen=state["backbone"],
                overrides={"patch": rates, "norm": rates},
            )
        self._keep(task, learned)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        if frozen is None:
            return self.net.one(params, x)
        own = {**self._patch.applied(frozen, params.get("patch", {})), **params.get("norm", {}), **params["head"]}
        return self.net.one({**frozen, **own}, x, statistics=self._patch.statistics)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        assert task_id is not None
        backbone = self.state["backbone"]
        own = {**self._patch.norms.of(self.state, task_id, backbone), **self._head(task_id)}
        return self.net.all({**backbone, **self._patch.applied(backbone, self._patch_of(task_id)), **own}, x)

    def fingerprint(self, task_id: int | None) -> int | None:
        assert task_id is not None
        heads: Bank = self.state["heads"]
        if task_id < len(heads):
            return heads.writes(task_id)
        return -1 if self.backbone == "first_task" and len(heads) else 0

    @cached_property
    def _patch(self) -> PatchParts:
        return PatchParts(self.net, self.kind)

    def _patch_of(self, task_id: int) -> Params:
        if "patches" not in self.state:
            return {}
        patches: Bank = self.state["patches"]
        if task_id < len(patches):
            return self._patch.layout.named(patches[task_id])
        return self._patch.identity(self.state["backbone"])

    def _head(self, task_id: int) -> Params:
        return head_for(self.state["heads"], task_id, self.state["backbone"])

    def _keep(self, task_id: int, learned: Tree) -> None:
        if "patches" in self.state:
            self.state["patches"].put(task_id, self._patch.layout.row(learned["patch"]))
        self._patch.norms.put(self.state, task_id, learned.get("norm", {}))
        self.state["heads"].put(task_id, row_of(learned["head"]))
