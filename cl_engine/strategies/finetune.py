"""Fine-tuning, the baseline that forgets."""

from __future__ import annotations

from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.strategy import Learning, Strategy


class Finetune(Strategy):
    """Fine-tuning: one net, trained on each experience in turn, nothing done against forgetting.

    In the ``task`` setting every task has a head of its own.
    """

    rowwise = True

    def start(self) -> State:
        return self.new_net()

    def learn(self, experience: Experience) -> Learning:
        params = yield from self.fit(self.net_for(experience.task_id), self.loss, experience)
        self.keep_net(experience.task_id, params)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.net_for(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.midway_net(params, task_id), x)
