"""A frozen random net with trained heads: the floor for whatever reuses a fixed network."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.nn.feature_cache import FrozenFeatures
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy


class HeadOnly(Strategy):
    """Head only: the net is never trained, only its last layer; a head a task where the task is told.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "head_only", **{"train.epochs": 3})
    >>> experiment.resolved["train"]["epochs"]
    3
    """

    shared = SharedNet()
    needs_boundaries = False

    def start(self) -> State:
        return self.shared.start()

    def learn(self, experience: Experience) -> Learning:
        params = self.shared.params(experience.task_id)
        head = {name: params[name] for name in (HEAD_WEIGHT, HEAD_BIAS)}
        trained = yield from self.fit(head, self.loss, experience, frozen=params)
        self.shared.keep(experience.task_id, {**params, **trained})

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self.net.one({**(frozen or {}), **params}, x, training=False)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self._features.logits(self.shared.params(task_id), x)

    def fingerprint(self, task_id: int | None) -> int | None:
        return None if task_id is None else self.state["heads"].writes(task_id)

    @cached_property
    def _features(self) -> FrozenFeatures:
        return FrozenFeatures(self.net)
