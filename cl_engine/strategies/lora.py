"""LoRA: a low-rank update a task, over one frozen network."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from torch import Tensor

from cl_engine.adapters.adapted_net import AdaptedNet
from cl_engine.adapters.low_rank import LowRank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.masks.norms import MEANING, NormPolicy
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy


class Lora(Strategy):
    """LoRA: a product of two thin matrices a task is added to each weight of a frozen net; and a head a task (Hu et al. 2021).

    W + α/r · B A, with B zero at the start: a weight ``[O, I]`` costs a task r (O + I) numbers. A kernel of a convolution is the
    matrix ``[O, I·h·w]``. What a task keeps is one row of one tensor, applied as arithmetic: tasks may be learned and asked in
    turn, as often as one likes, at the same cost. Biases are frozen, normalisation too unless ``norm`` says otherwise. Where no
    task is told at test time, all tasks have one row and one head, learned on and on.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "lora", **{"rank": 2})
    >>> experiment.resolved["strategy"]["rank"]
    2
    """

    per_seed = True

    backbone: Literal["initial", "first_task"] = option(
        "initial", "the frozen net: as the scenario starts it (random or pre-trained), or trained on the first task"
    )
    rank: int = option(4, "rank r of what is added; of a weight whose smaller side is less, that", ge=1)
    alpha: float | None = option(None, "what is added counts alpha / rank times; left out: once", gt=0)
    where: list[str] = option(["*"], "patterns of the names of layers that are adapted, as the shell has them")
    adapter_lr: float | None = option(None, "learning rate of the adapter; left out: that of the head", gt=0)
    norm: NormPolicy = option("frozen", MEANING)

    def start(self) -> State:
        return self._adapted.start()

    def learn(self, experience: Experience) -> Learning:
        yield from self._adapted.learn(self, experience, trains_first=self.backbone == "first_task", lr=self.adapter_lr)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one(params, x) if frozen is None else self._adapted.logits(params, frozen, x)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self._adapted.predict(self.state, x, task_id)

    def fingerprint(self, task_id: int | None) -> int | None:
        return self._adapted.fingerprint(self.state, task_id, first_trains_all=self.backbone == "first_task")

    @cached_property
    def _adapter(self) -> LowRank:
        return LowRank(self.net, self.rank, self.alpha, self.where, self.norm)

    @property
    def _adapted(self) -> AdaptedNet:
        return AdaptedNet(
            self.net, self._adapter, tuple(self.seeds), "adapter", "adapters", apart=self.setting == "task"
        )
