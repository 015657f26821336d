"""Experience replay: rehearsal from a memory of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine import rng
from cl_engine.events import StrategyEvent
from cl_engine.heads import head_of
from cl_engine.memory import State
from cl_engine.net import Params
from cl_engine.options import option
from cl_engine.rehearsal import balanced, reservoir
from cl_engine.strategy import Learning, Strategy
from cl_engine.stream import Experience
from cl_engine.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUpdated(StrategyEvent):
    """The rehearsal memory took in an experience: rows held, and how many of them are of this task, by seed."""

    rowwise = True

    task_id: int
    rows: int
    of_this_task: tuple[int, ...]


class Replay(Strategy):
    """Experience replay: every batch is joined by as many rows from a memory of past tasks (Chaudhry et al., 2019).

    The memory has a fixed size and is filled by reservoir sampling, or class by class in equal shares. Each seed keeps
    rows of its own choice.
    """

    samples: int = option(500, "rows the memory holds", ge=1)
    bytes: int | None = option(None, "bytes the memory may take; overrides samples", ge=1)
    selection: Literal["reservoir", "balanced"] = option("reservoir", "reservoir sampling, or equal shares a class")

    def start(self) -> State:
        return {**self.new_net(), "memory": {"seen": 0}}

    def learn(self, experience: Experience) -> Learning:
        x, y, memory = experience.train.x, experience.train.y, self.state["memory"]
        t = torch.full_like(y, experience.task_id)
        remembered = memory["t"] if "t" in memory else t.new_empty(len(self.seeds), 0)
        tasks = torch.cat([remembered.flatten(), t[:1]]).unique()  # the heads that some row is answered with
        place = int(torch.searchsorted(tasks, experience.task_id))
        self._fitted = tasks.tolist()
        before = self.tasks_net(tasks)
        trained = yield from self.fit(
            before,
            self.mixed_loss,
            experience,
            rows=(x, y, torch.full_like(t, place)),
            rehearsal=(memory["x"], memory["y"], torch.searchsorted(tasks, remembered)) if "x" in memory else None,
            logits=self.logits_of(place),
        )
        if "heads" in trained:  # a seed has no rows of tasks that only others remember: their heads stay as they are
            own = (remembered.unsqueeze(2) == tasks).any(dim=1) | (tasks == experience.task_id)
            trained["heads"] = torch.where(own[..., None, None], trained["heads"], before["heads"])
        self.keep_tasks_net(tasks, trained)
        self._remember(experience.step, x, y, t)
        of_this = (self.state["memory"]["t"] == experience.task_id).sum(dim=1)
        yield MemoryUpdated(
            step=experience.step,
            task_id=experience.task_id,
            rows=self.state["memory"]["y"].shape[1],
            of_this_task=tuple(of_this.tolist()),
        )

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.net_for(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        net: Params = params["net"]
        if "heads" in params and task_id in self._fitted:
            return self.net.all({**net, **head_of(params["heads"][:, self._fitted.index(task_id)])}, x)
        return self.net.all(self.midway_net(net, task_id), x)

    def _remember(self, step: int, x: Tensor, y: Tensor, t: Tensor) -> None:
        memory, new = self.state["memory"], {"x": x, "y": y, "t": t}
        held = memory["y"].shape[1] if "y" in memory else 0
        row_bytes = x[0].numel() * x.element_size() + y.element_size() + t.element_size()
        room = self.samples if self.bytes is None else max(1, self.bytes // row_bytes)
        kept: list[dict[str, Tensor]] = []
        for s, seed in enumerate(self.seeds):
            draw = rng.arrays(seed, "memory", step)
            every = {name: torch.cat([memory[name][s], rows]) if held else rows for name, rows in new.items()}
            if self.selection == "reservoir":
                index = reservoir(held, memory["seen"], len(y), room, draw)
            else:
                groups = np.unique(
                    torch.stack([every["t"], every["y"]], dim=1).cpu().numpy(), axis=0, return_inverse=True
                )
                index = balanced(groups[1], room, draw)
            chosen = torch.from_numpy(index).to(y.device)
            kept.append({name: rows.index_select(0, chosen) for name, rows in every.items()})
        stacked = {name: torch.stack([one[name] for one in kept]) for name in new}
        self.state["memory"] = {**stacked, "seen": memory["seen"] + len(y)}
