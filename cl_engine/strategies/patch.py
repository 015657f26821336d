"""Patch: a few weights a task, put into one frozen network."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from torch import Tensor

from cl_engine.adapters.adapted_net import AdaptedNet
from cl_engine.adapters.patches import Kind, PatchParts
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy


class Patch(Strategy):
    """Patch: scale and shift of normalisation layers a task, and a head, over a frozen net (Mudrakarta et al. 2019).

    "K for the price of 1": a patch holds scale and shift, and BatchNorm statistics, of every normalisation layer; or
    depthwise kernels; or both. A net without normalisation gets a scale and a shift for each output of its linear and
    convolution layers. Of a net with a front, as the learned resizer of ``resized``, it may hold that: its kernels and norms.
    Further kinds are the biases alone (BitFit; Ben Zaken et al. 2022), bottleneck adapters after the net's modules (Houlsby et
    al. 2019), and a real-valued mask of all weights; a task keeps its own BatchNorm statistics beside each. Where no task is told
    at test time, all tasks have one patch and one head, learned on and on.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "patch", **{"patch_lr": 0.01})
    >>> experiment.resolved["strategy"]["patch_lr"]
    0.01
    """

    per_seed = True

    backbone: Literal["initial", "first_task"] = option(
        "initial", "the frozen net: as the scenario starts it (random or pre-trained), or trained on the first task"
    )
    kind: Kind = option(
        "scale_bias",
        "what a patch holds: scale and shift, the kernels of depthwise layers, or both; the net's front; biases; bottleneck "
        "adapters; or a factor of every weight",
    )
    bottleneck: int = option(8, "width of bottleneck adapters", ge=1, before=8)
    patch_lr: float | None = option(None, "learning rate of the patch; left out: that of the head", gt=0)

    def start(self) -> State:
        return self._adapted.start()

    def learn(self, experience: Experience) -> Learning:
        yield from self._adapted.learn(self, experience, trains_first=self.backbone == "first_task", lr=self.patch_lr)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one(params, x) if frozen is None else self._adapted.logits(params, frozen, x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self._adapted.predict(self.state, x, task_id)

    def fingerprint(self, task_id: int | None) -> int | None:
        return self._adapted.fingerprint(self.state, task_id, first_trains_all=self.backbone == "first_task")

    @cached_property
    def _patch(self) -> PatchParts:
        return PatchParts(self.net, self.kind, self.bottleneck)

    @property
    def _adapted(self) -> AdaptedNet:
        return AdaptedNet(self.net, self._patch, tuple(self.seeds), "patch", "patches", apart=self.setting == "task")
