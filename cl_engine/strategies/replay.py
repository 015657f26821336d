"""Experience replay: rehearsal from a memory of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.pieced_stream import first_apart
from cl_engine.data.stream import Experience, Stream
from cl_engine.events import StrategyEvent
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.task_heads import head_of
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.fit_job import RowsBeside
from cl_engine.training.optimizers import NOT_ELEMENTWISE
from cl_engine.training.rehearsal import as_rows_arrive, balanced, group_name, group_of, groups_in, reservoir
from cl_engine.training.sampled_fit import Sampling, sampled_fit


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
    rows of its own choice. Where tasks ask for different things, memory and rehearsed rows are divided evenly among these.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "replay", **{"samples": 200})
    >>> experiment.resolved["strategy"]["samples"]
    200
    """

    shared = SharedNet()
    rowwise = True
    per_seed = True
    takes_arrivals = True

    samples: int = option(500, "rows the memory holds", ge=1)
    bytes: int | None = option(None, "bytes the memory may take; overrides samples", ge=1)
    selection: Literal["reservoir", "balanced"] = option("reservoir", "reservoir sampling, or equal shares a class")
    practice: Sampling
    _references: Tensor | None = None

    def start(self) -> State:
        return {**self.shared.start(), "memory": {"seen": 0}}

    def check_stream(self, stream: Stream) -> None:
        self._references = self.practice.references(stream)

    def learn(self, experience: Experience) -> Learning:
        group = group_of(self.target_of, experience.task_id)
        empty = "x" not in self.state.get(group_name("memory", group), {})
        parts = first_apart(experience) if experience.pieces and empty else [experience]  # the first has none beside it
        for part in parts:
            yield from self._learn(part)

    def _learn(self, experience: Experience) -> Learning:
        x, y, task = experience.train.x, experience.train.y, experience.task_id
        t = torch.full((len(y),), task, dtype=torch.int64, device=y.device)
        group = group_of(self.target_of, task)
        new = [{"x": x, "y": y, "t": t} for x, y in map(experience.train.of, range(len(self.seeds)))]
        room = self._make_room(experience.step, group, new) if experience.pieces else 0
        held = groups_in(self.state, "memory")
        kept = {g: self.state[name] for g, name in held.items() if "x" in self.state[name]}
        remembered = torch.cat([t.new_empty(len(self.seeds), 0), *(memory["t"] for memory in kept.values())], dim=1)
        tasks = self._answered_with(remembered, task)
        place = int(torch.searchsorted(tasks, task))
        params = self.shared.of_tasks(tasks)
        own = torch.zeros(len(self.seeds), len(tasks), dtype=torch.bool, device=t.device)
        own.scatter_(1, torch.searchsorted(tasks, remembered), True)
        own[:, place] = True
        self._fitted = tasks.tolist(), own, params.get("heads")
        rows = {g: (m["x"], m["y"], torch.searchsorted(tasks, m["t"])) for g, m in kept.items()}
        share = max(1, self.train.batch // max(1, len(rows)))
        drawn: Tensor | None = None
        if experience.pieces:
            every = self._with(group, new)
            drawn, kept_rows = self._as_rows_arrive(experience, every, share, room)
            rows[group] = (every["x"], every["y"], torch.searchsorted(tasks, every["t"]))
        trained = yield from sampled_fit(
            self,
            self.practice,
            params,
            self.shared.task_loss,
            experience,
            tasks=tasks,
            answers=self.shared.task_logits,
            references=self._references,
            known=own,
            rows=(x, y, torch.full_like(t, place)),
            rehearsal=rows.pop(group, None),
            rehearsal_batch=share,
            beside=[RowsBeside(more, self.shared.loss_of(self.target_of(g)), share) for g, more in rows.items()],
            logits=self.shared.logits_at(place),
            drawn=drawn,
        )
        if "heads" in trained:
            trained["heads"] = self._own(trained["heads"])
        self.shared.keep_tasks(tasks, trained)
        if experience.pieces:
            self._keep(group, every, kept_rows, len(y))
        else:
            self._remember(experience.step, group, new)
        held = groups_in(self.state, "memory")
        of_this = (self.state[held[group]].get("t", remembered[:, :0]) == task).sum(dim=1)
        yield MemoryUpdated(
            step=experience.step,
            task_id=task,
            rows=sum(self.state[name]["t"].shape[1] for name in held.values() if "t" in self.state[name]),
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

    def _make_room(self, step: int, group: int, new: list[dict[str, Tensor]]) -> int:
        """Let other groups leave a group its share of the memory, which is divided evenly among what tasks ask for; return it."""
        name, known = group_name("memory", group), groups_in(self.state, "memory").values()
        others = [other for other in known if other != name and "x" in self.state[other]]
        for other in (*others, name):
            self.state[other] = self._thinned(step, self.state.get(other, {"seen": 0}), len(others) + 1)
        return self._room(new[0], len(others) + 1)

    def _remember(self, step: int, group: int, new: list[dict[str, Tensor]]) -> None:
        """Take rows of each seed into the memory."""
        room = self._make_room(step, group, new)
        every, memory = self._with(group, new), self.state[group_name("memory", group)]
        rows = len(new[0]["y"])
        held, kept = every["y"].shape[1] - rows, []
        for s, seed in enumerate(self.seeds):
            draw = rng.arrays(seed, "memory", step)
            if self.selection == "reservoir":
                kept.append(reservoir(held, memory["seen"], rows, room, draw))
            else:
                kept.append(balanced(_shares(every["y"][s], every["t"][s]), room, draw))
        self._keep(group, every, kept, rows)

    def _as_rows_arrive(
        self, experience: Experience, every: dict[str, Tensor], share: int, room: int
    ) -> tuple[Tensor, list[np.ndarray]]:
        """Return which rows join each batch ``[S, batches, K]`` of an experience that comes in pieces, and which are kept."""
        name = group_name("memory", group_of(self.target_of, experience.task_id))
        rows, seen = len(experience.train), self.state[name]["seen"]
        joined, kept = [], []
        for s, seed in enumerate(self.seeds):
            draw = rng.arrays(seed, "memory", experience.key)
            shares = None if self.selection == "reservoir" else _shares(every["y"][s], every["t"][s])

            def keep(
                there: np.ndarray, before: int, draw: Any = draw, shares: np.ndarray | None = shares
            ) -> np.ndarray:
                if shares is not None:
                    return balanced(shares[there], room, draw)
                new = min(experience.pieces, rows - before)
                return reservoir(len(there) - new, seen + before, new, room, draw)

            held = every["y"].shape[1] - rows
            found = as_rows_arrive(held, rows, experience.pieces, self.train.epochs, share, keep, draw)
            joined.append(found[0])
            kept.append(found[1])
        return torch.from_numpy(np.stack(joined)), kept

    def _with(self, group: int, new: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the rows of a group's memory with new ones of each seed behind them ``[S, N, …]``."""
        memory = self.state[group_name("memory", group)]
        more = {part: torch.stack([own[part] for own in new]) for part in new[0]}
        return {part: torch.cat([memory[part], rows], dim=1) for part, rows in more.items()} if "y" in memory else more

    def _keep(self, group: int, every: dict[str, Tensor], kept: list[np.ndarray], new: int) -> None:
        """Let a group's memory hold those of its rows that each seed keeps, so many of them new."""
        name, device = group_name("memory", group), every["y"].device
        chosen = [torch.from_numpy(index).to(device) for index in kept]
        rows = [{part: of[s].index_select(0, index) for part, of in every.items()} for s, index in enumerate(chosen)]
        self.state[name] = _held(rows, self.state[name]["seen"] + new)

    def _room(self, rows: dict[str, Tensor], groups: int) -> int:
        """Return how many rows such as these one of so many groups may hold."""
        each = sum(part[0].numel() * part.element_size() for part in rows.values())
        return (self.samples if self.bytes is None else max(1, self.bytes // each)) // groups

    def _thinned(self, step: int, memory: State, groups: int) -> State:
        """Return a group's memory with no more rows than it may hold beside others, drawn from those there are."""
        if "x" not in memory:
            return memory
        rows = {part: memory[part] for part in ("x", "y", "t")}
        held, room = memory["t"].shape[1], self._room({part: own[0] for part, own in rows.items()}, groups)
        if held <= room:
            return memory
        kept = []
        for s, seed in enumerate(self.seeds):
            draw = rng.arrays(seed, "thinned", step)
            if self.selection == "reservoir":
                index = draw.permutation(held)[:room]
            else:
                index = balanced(_shares(rows["y"][s], rows["t"][s]), room, draw)
            kept.append({part: own[s][torch.from_numpy(index).to(own.device)] for part, own in rows.items()})
        return _held(kept, memory["seen"])


def _shares(y: Tensor, t: Tensor) -> np.ndarray:
    """Return what has an equal share of a balanced memory: the class of a task that each row is of, or its task."""
    labels = y if y.ndim == 1 and not y.is_floating_point() else torch.zeros_like(t)
    found = np.unique(torch.stack([t, labels], dim=1).cpu().numpy(), axis=0, return_inverse=True)
    return np.asarray(found[1])


def _held(of_seeds: list[dict[str, Tensor]], seen: int) -> State:
    """Return a memory of rows of each seed; without any, where there is no room for one."""
    rows = {part: torch.stack([one[part] for one in of_seeds]) for part in of_seeds[0]}
    return {**(rows if rows["t"].shape[1] else {}), "seen": seen}
