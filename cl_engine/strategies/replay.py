"""Experience replay: rehearsal from a memory of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import StrategyEvent
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.task_heads import head_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.optimizers import NOT_ELEMENTWISE
from cl_engine.training.rehearsal import balanced, reservoir


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUpdated(StrategyEvent):
    """The rehearsal memory took in an experience: rows held, and how many of them are of this task, by seed.

    >>> event = MemoryUpdated(step=3, task_id=2, rows=60, of_this_task=(45, 44))
    >>> event.of_this_task
    (45, 44)
    """

    task_id: int
    rows: int
    of_this_task: tuple[int, ...]


class Replay(Strategy):
    """Experience replay: every batch is joined by as many rows from a memory of past tasks (Chaudhry et al., 2019).

    The memory has a fixed size and is filled by reservoir sampling, or class by class in equal shares. Each seed keeps
    rows of its own choice.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "replay", **{"samples": 200})
    >>> experiment.resolved["strategy"]["samples"]
    200
    """

    shared = SharedNet()
    rowwise = True

    samples: int = option(500, "rows the memory holds", ge=1)
    bytes: int | None = option(None, "bytes the memory may take; overrides samples", ge=1)
    selection: Literal["reservoir", "balanced"] = option("reservoir", "reservoir sampling, or equal shares a class")

    def start(self) -> State:
        return {**self.shared.start(), "memory": {"seen": 0}}

    def learn(self, experience: Experience) -> Learning:
        x, y, memory = experience.train.x, experience.train.y, self.state["memory"]
        t = torch.full_like(y, experience.task_id)
        remembered = memory["t"] if "t" in memory else t.new_empty(len(self.seeds), 0)
        tasks = self._answered_with(remembered, experience.task_id)
        places, place = torch.searchsorted(tasks, remembered), int(torch.searchsorted(tasks, experience.task_id))
        params = self.shared.of_tasks(tasks)
        own = torch.zeros(len(self.seeds), len(tasks), dtype=torch.bool, device=t.device).scatter_(1, places, True)
        own[:, place] = True
        self._fitted = tasks.tolist(), own, params.get("heads")
        trained = yield from self.fit(
            params,
            self.shared.task_loss,
            experience,
            rows=(x, y, torch.full_like(t, place)),
            rehearsal=(memory["x"], memory["y"], places) if "x" in memory else None,
            logits=self.shared.logits_at(place),
        )
        if "heads" in trained:
            trained["heads"] = self._own(trained["heads"])
        self.shared.keep_tasks(tasks, trained)
        self._remember(experience.step, x, y, t)
        of_this = (self.state["memory"]["t"] == experience.task_id).sum(dim=1)
        yield MemoryUpdated(
            step=experience.step,
            task_id=experience.task_id,
            rows=self.state["memory"]["y"].shape[1],
            of_this_task=tuple(of_this.tolist()),
        )

    @property
    def rounded(self) -> bool:
        return self.setting == "task"  # then the heads of all tasks that any seed remembers are fitted as one tensor

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self.net.all(self.shared.params(task_id), x)

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        net: Params = params["net"]
        tasks = self._fitted[0]
        if "heads" in params and task_id in tasks:
            return self.net.all({**net, **head_of(self._own(params["heads"])[:, tasks.index(task_id)])}, x)
        return self.net.all(self.shared.params_midway(net, task_id), x)

    def _answered_with(self, remembered: Tensor, task_id: int) -> Tensor:
        """Return the tasks whose heads are fitted: those that any seed remembers rows ``[S, M]`` of, and this one.

        All there are, if the optimiser's step of one number depends on others: a seed's must not depend on what other
        seeds remember.
        """
        if self.train.optimizer in NOT_ELEMENTWISE and "heads" in self.state:
            return torch.arange(max(len(self.state["heads"]), task_id + 1), device=remembered.device)
        tasks: Tensor = torch.cat([remembered.flatten(), remembered.new_tensor([task_id])]).unique()
        return tasks

    def _own(self, heads: Tensor) -> Tensor:
        """Return heads as they are fitted; of tasks that only other seeds remember as they were before."""
        _, own, before = self._fitted
        return heads if before is None else torch.where(own[..., None, None], heads, before)

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
