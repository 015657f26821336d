"""Fine-tuning, the baseline that forgets."""

from __future__ import annotations

from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy


class Finetune(Strategy):
    """Fine-tuning: one net, trained on each experience in turn, nothing done against forgetting.

    In the ``task`` setting every task has a head of its own.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "finetune", **{"train.lr": 0.1})
    >>> experiment.resolved["train"]["lr"]
    0.1
    """

    shared = SharedNet()
    takes_arrivals = True
    needs_boundaries = False
    rowwise = True
    per_seed = True

    def start(self) -> State:
        return self.shared.start()

    def learn(self, experience: Experience) -> Learning:
        params = yield from self.fit(self.shared.params(experience.task_id), self.loss, experience)
        self.shared.keep(experience.task_id, params)

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params_midway(params, task_id), x)
