"""Training on everything at once: the upper bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.data.stream import Experience
from cl_engine.nn.shared_net import SharedNet
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import RowsBeside
from cl_engine.training.rehearsal import group_name, group_of, groups_in


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
        self._remember(experience)
        kept = {group: self._rows(name) for group, name in groups_in(self.state, "data").items()}
        own = kept.pop(group_of(self.target_of, experience.task_id))
        last = max(int(t.max()) for *_, t in (own, *kept.values()))
        tasks = torch.arange(last + 1, device=own[2].device)
        params, logits = self.shared.of_tasks(tasks, fresh=True), self.shared.logits_at(experience.task_id)
        beside = [RowsBeside(rows, self.shared.loss_of(self.target_of(group))) for group, rows in kept.items()]
        trained = yield from self.fit(params, self.shared.task_loss, experience, rows=own, beside=beside, logits=logits)
        self.shared.keep_tasks(tasks, trained)

    def fitted_groups(self, rows: Sequence[int], asked: Sequence[str]) -> Sequence[Sequence[int]]:
        kept, groups = Counter[str](), []
        for count, kind in zip(rows, asked, strict=True):
            kept[kind] += count
            groups.append(list(kept.values()))
        return groups

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def _remember(self, experience: Experience) -> None:
        """Add the rows of an experience to those kept, shared by the seeds, of tasks that ask for the same."""
        x, y, task = experience.train.x, experience.train.y, experience.task_id
        new = {"x": x, "y": y, "t": torch.full((len(y),), task, dtype=torch.int64, device=y.device)}
        name = group_name("data", group_of(self.target_of, task))
        data, kept = {part: rows.unsqueeze(0) for part, rows in new.items()}, self.state.get(name)
        self.state[name] = (
            data if kept is None else {part: torch.cat([kept[part], rows], dim=1) for part, rows in data.items()}
        )

    def _rows(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        data = self.state[name]
        return data["x"][0], data["y"][0], data["t"][0]
