"""Training on everything at once: the upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy


class Joint(Strategy):
    """Joint training: after each experience a new net is trained on all data so far, which are kept and counted.

    The usual upper bound, where its one net of the scenario's size has room for all tasks: in a small net many unlike
    tasks may stay below ``independent``, which has a net for each. Its cost grows with the square of the number of tasks.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "joint", **{"train.epochs": 3})
    >>> experiment.resolved["train"]["epochs"]
    3
    """

    shared = SharedNet()
    rowwise = True
    cost = "growing"

    def start(self) -> State:
        return self.shared.start()

    def learn(self, experience: Experience) -> Learning:
        x, y, t = self._remember(experience)
        tasks = torch.arange(int(t.max()) + 1, device=t.device)
        params, logits = self.shared.of_tasks(tasks, fresh=True), self.shared.logits_at(experience.task_id)
        trained = yield from self.fit(params, self.shared.task_loss, experience, rows=(x, y, t), logits=logits)
        self.shared.keep_tasks(tasks, trained)

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return list(accumulate(rows))

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def _remember(self, experience: Experience) -> tuple[Tensor, Tensor, Tensor]:
        """Add the rows of an experience to the data kept, shared by the seeds; return all of them."""
        x, y = experience.train.x, experience.train.y
        new = {"x": x, "y": y, "t": torch.full_like(y, experience.task_id)}
        kept = self.state.get("data")
        data = {name: rows.unsqueeze(0) for name, rows in new.items()}
        if kept is not None:
            data = {name: torch.cat([kept[name], rows], dim=1) for name, rows in data.items()}
        self.state["data"] = data
        return data["x"][0], data["y"][0], data["t"][0]
