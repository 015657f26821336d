"""Learning with a memory of past rows, some of which join every batch: for strategies that differ in what they make of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.pieced_stream import first_apart
from cl_engine.data.stream import Experience
from cl_engine.events import Event, StrategyEvent
from cl_engine.nn.net import Params
from cl_engine.nn.shared_net import Learner as OfSharedNet
from cl_engine.nn.shared_net import SharedNet
from cl_engine.nn.target import Target
from cl_engine.nn.task_heads import head_of
from cl_engine.options import OptionGroup, option
from cl_engine.training.fit_job import RowsBeside
from cl_engine.training.optimizers import NOT_ELEMENTWISE, Train
from cl_engine.training.rehearsal import as_rows_arrive, balanced, group_name, group_of, groups_in, reservoir, shares_of

Fit = Callable[..., Generator[Event, None, Tree]]
Note = Callable[[int, Tensor], Tensor]


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


class RowMemory(OptionGroup):
    """Options of a memory of past rows: its size, and which rows it keeps.

    >>> RowMemory().samples
    500
    """

    samples: int = option(500, "rows the memory holds", ge=1)
    bytes: int | None = option(None, "bytes the memory may take; overrides samples", ge=1)
    selection: Literal["reservoir", "balanced"] = option("reservoir", "reservoir sampling, or equal shares a class")


class Learner(OfSharedNet, Protocol):
    """The attributes of a strategy that rehearses.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy has them, but for `shared` and `_fitted`
    'Strategy'
    """

    train: Train
    _fitted: Any

    @property
    def shared(self) -> SharedNet:
        """The net that all tasks share."""
        ...

    def target_of(self, task_id: int) -> Target:
        """Return what a task asks for."""
        ...


class Rehearsal:
    """The learning of a strategy whose batches are joined by rows of a memory of fixed size, which takes in what was learned.

    Each seed keeps rows of its own choice. Where tasks ask for different things, memory and rehearsed rows are divided evenly
    among these. The memory is the part ``memory`` of the strategy's state.

    >>> Rehearsal.start()
    {'memory': {'seen': 0}}
    """

    def __init__(self, learner: Learner, options: RowMemory) -> None:
        """Rehearse for a strategy, which keeps the state, and what is being fitted in ``_fitted``."""
        self._learner, self._options = learner, options

    @staticmethod
    def start() -> State:
        """Return the part of a state before the first experience."""
        return {"memory": {"seen": 0}}

    def learn(self, experience: Experience, fit: Fit, note: Note | None = None) -> Generator[Event, None, None]:
        """Learn an experience, and take its rows into the memory.

        Args:
            experience: what is learned.
            fit: ``fit(params, experience, tasks=, known=, **options)`` fits `SharedNet.of_tasks` as `Strategy.fit` does, with the
                rows ``(x, y, place among the tasks)`` and rehearsed ones alike; those have what was noted of them behind it.
                In pieces it is given ``noted [S, M + N, …]`` instead, the notes of the memory and of the rows to come, which it
                fills in and returns among what it fitted; rehearsed rows then have their places in it behind them.
            note: ``note(place of the seed, x)`` returns what is kept of rows ``[N, …]`` beside them, once they are learned.
        """
        group = group_of(self._learner.target_of, experience.task_id)
        empty = "x" not in self._learner.state.get(group_name("memory", group), {})
        parts = first_apart(experience) if experience.pieces and empty else [experience]  # the first has none beside it
        for part in parts:
            yield from self._learn(part, fit, note)

    def _learn(self, experience: Experience, fit: Fit, note: Note | None) -> Generator[Event, None, None]:
        state, seeds, shared = self._learner.state, self._learner.seeds, self._learner.shared
        x, y, task = experience.train.x, experience.train.y, experience.task_id
        t = torch.full((len(y),), task, dtype=torch.int64, device=y.device)
        group = group_of(self._learner.target_of, task)
        new = [{"x": x, "y": y, "t": t} for x, y in map(experience.train.of, range(len(seeds)))]
        room = self._make_room(experience.step, group, new) if experience.pieces else 0
        held = groups_in(state, "memory")
        kept = {g: state[name] for g, name in held.items() if "x" in state[name]}
        remembered = torch.cat([t.new_empty(len(seeds), 0), *(memory["t"] for memory in kept.values())], dim=1)
        tasks = self._answered_with(remembered, task)
        place = int(torch.searchsorted(tasks, task))
        params = shared.of_tasks(tasks)
        own = torch.zeros(len(seeds), len(tasks), dtype=torch.bool, device=t.device)
        own.scatter_(1, torch.searchsorted(tasks, remembered), True)
        own[:, place] = True
        self._learner._fitted = tasks.tolist(), own, params.get("heads")
        rows = {g: _with_places(m, tasks) for g, m in kept.items()}
        share = max(1, self._learner.train.batch // max(1, len(rows)))
        drawn: Tensor | None = None
        noting: dict[str, Tensor] = {}
        if experience.pieces:
            every = self._with(group, new)
            drawn, kept_rows = self._as_rows_arrive(experience, every, share, room)
            rows[group] = _with_places(every, tasks)
            if note is not None:
                old = kept[group]["z"]
                noting["noted"] = torch.cat([old, old.new_zeros(len(old), len(y), *old.shape[2:])], dim=1)
                places = torch.arange(noting["noted"].shape[1], device=t.device)
                rows[group] = (*rows[group], places.expand(len(old), -1))
        trained = yield from fit(
            params,
            experience,
            tasks=tasks,
            known=own,
            rows=(x, y, torch.full_like(t, place)),
            rehearsal=rows.pop(group, None),
            rehearsal_batch=share,
            beside=[
                RowsBeside(more[:3], shared.loss_of(self._learner.target_of(g)), share) for g, more in rows.items()
            ],
            logits=shared.logits_at(place),
            drawn=drawn,
            **noting,
        )
        if noting:
            every["z"] = trained.pop("noted")
        if "heads" in trained:
            trained["heads"] = self._own(trained["heads"])
        shared.keep_tasks(tasks, trained)
        if experience.pieces:
            self._keep(group, every, kept_rows, len(y))
        else:
            if note is not None:
                for number, own_rows in enumerate(new):
                    own_rows["z"] = note(number, own_rows["x"])
            self._remember(experience.step, group, new)
        held = groups_in(state, "memory")
        of_this = (state[held[group]].get("t", remembered[:, :0]) == task).sum(dim=1)
        yield MemoryUpdated(
            step=experience.step,
            task_id=task,
            rows=sum(state[name]["t"].shape[1] for name in held.values() if "t" in state[name]),
            of_this_task=tuple(of_this.tolist()),
        )

    def predict_midway(self, params: Tree, x: Tensor, task_id: int | None) -> Tensor:
        """Return logits ``[S, N, C]`` on a task met before, while ``params`` are being fitted."""
        net: Params = params["net"]
        tasks = self._learner._fitted[0]
        if "heads" in params and task_id in tasks:
            return self._learner.net.all({**net, **head_of(self._own(params["heads"])[:, tasks.index(task_id)])}, x)
        return self._learner.net.all(self._learner.shared.params_midway(net, task_id), x)

    def _answered_with(self, remembered: Tensor, task_id: int) -> Tensor:
        """Return the tasks whose heads are fitted: those that any seed remembers rows ``[S, M]`` of, and this one.

        All there are, if the optimiser's step of one number depends on others: a seed's must not depend on what other
        seeds remember.
        """
        if self._learner.train.optimizer in NOT_ELEMENTWISE and "heads" in self._learner.state:
            return torch.arange(max(len(self._learner.state["heads"]), task_id + 1), device=remembered.device)
        tasks: Tensor = torch.cat([remembered.flatten(), remembered.new_tensor([task_id])]).unique()
        return tasks

    def _own(self, heads: Tensor) -> Tensor:
        """Return heads as they are fitted; of tasks that only other seeds remember as they were before."""
        _, own, before = self._learner._fitted
        return heads if before is None else torch.where(own[..., None, None], heads, before)

    def _make_room(self, step: int, group: int, new: list[dict[str, Tensor]]) -> int:
        """Let other groups leave a group its share of the memory, which is divided evenly among what tasks ask for; return it."""
        state, name = self._learner.state, group_name("memory", group)
        others = [other for other in groups_in(state, "memory").values() if other != name and "x" in state[other]]
        for other in (*others, name):
            state[other] = self._thinned(step, state.get(other, {"seen": 0}), len(others) + 1)
        return self._room(new[0], len(others) + 1)

    def _remember(self, step: int, group: int, new: list[dict[str, Tensor]]) -> None:
        """Take rows of each seed into the memory."""
        room = self._make_room(step, group, new)
        every, memory = self._with(group, new), self._learner.state[group_name("memory", group)]
        rows = len(new[0]["y"])
        held, kept = every["y"].shape[1] - rows, []
        for s, seed in enumerate(self._learner.seeds):
            draw = rng.arrays(seed, "memory", step)
            if self._options.selection == "reservoir":
                kept.append(reservoir(held, memory["seen"], rows, room, draw))
            else:
                kept.append(balanced(shares_of(every["y"][s], every["t"][s]), room, draw))
        self._keep(group, every, kept, rows)

    def _as_rows_arrive(
        self, experience: Experience, every: dict[str, Tensor], share: int, room: int
    ) -> tuple[Tensor, list[np.ndarray]]:
        """Return which rows join each batch ``[S, batches, K]`` of an experience that comes in pieces, and which are kept."""
        name = group_name("memory", group_of(self._learner.target_of, experience.task_id))
        rows, seen = len(experience.train), self._learner.state[name]["seen"]
        joined, kept = [], []
        for s, seed in enumerate(self._learner.seeds):
            draw = rng.arrays(seed, "memory", experience.key)
            shares = None if self._options.selection == "reservoir" else shares_of(every["y"][s], every["t"][s])

            def keep(
                there: np.ndarray, before: int, draw: Any = draw, shares: np.ndarray | None = shares
            ) -> np.ndarray:
                if shares is not None:
                    return balanced(shares[there], room, draw)
                new = min(experience.pieces, rows - before)
                return reservoir(len(there) - new, seen + before, new, room, draw)

            held = every["y"].shape[1] - rows
            found = as_rows_arrive(held, rows, experience.pieces, self._learner.train.epochs, share, keep, draw)
            joined.append(found[0])
            kept.append(found[1])
        return torch.from_numpy(np.stack(joined)), kept

    def _with(self, group: int, new: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the rows of a group's memory with new ones of each seed behind them ``[S, N, …]``."""
        memory = self._learner.state[group_name("memory", group)]
        more = {part: torch.stack([own[part] for own in new]) for part in new[0]}
        return {part: torch.cat([memory[part], rows], dim=1) for part, rows in more.items()} if "y" in memory else more

    def _keep(self, group: int, every: dict[str, Tensor], kept: list[np.ndarray], new: int) -> None:
        """Let a group's memory hold those of its rows that each seed keeps, so many of them new."""
        name, device = group_name("memory", group), every["y"].device
        chosen = [torch.from_numpy(index).to(device) for index in kept]
        rows = [{part: of[s].index_select(0, index) for part, of in every.items()} for s, index in enumerate(chosen)]
        self._learner.state[name] = _held(rows, self._learner.state[name]["seen"] + new)

    def _room(self, rows: dict[str, Tensor], groups: int) -> int:
        """Return how many rows such as these one of so many groups may hold."""
        each = sum(part[0].numel() * part.element_size() for part in rows.values())
        return (self._options.samples if self._options.bytes is None else max(1, self._options.bytes // each)) // groups

    def _thinned(self, step: int, memory: State, groups: int) -> State:
        """Return a group's memory with no more rows than it may hold beside others, drawn from those there are."""
        if "x" not in memory:
            return memory
        rows = {part: own for part, own in memory.items() if part != "seen"}
        held, room = memory["t"].shape[1], self._room({part: own[0] for part, own in rows.items()}, groups)
        if held <= room:
            return memory
        kept = []
        for s, seed in enumerate(self._learner.seeds):
            draw = rng.arrays(seed, "thinned", step)
            if self._options.selection == "reservoir":
                index = draw.permutation(held)[:room]
            else:
                index = balanced(shares_of(rows["y"][s], rows["t"][s]), room, draw)
            kept.append({part: own[s][torch.from_numpy(index).to(own.device)] for part, own in rows.items()})
        return _held(kept, memory["seen"])


def _held(of_seeds: list[dict[str, Tensor]], seen: int) -> State:
    """Return a memory of rows of each seed; without any, where there is no room for one."""
    rows = {part: torch.stack([one[part] for one in of_seeds]) for part in of_seeds[0]}
    return {**(rows if rows["t"].shape[1] else {}), "seen": seen}


def _with_places(rows: Mapping[str, Tensor], tasks: Tensor) -> tuple[Tensor, ...]:
    """Return rows of a memory as a fit takes them: with the places of their tasks among those fitted."""
    noted = [rows["z"]] if "z" in rows else []
    return (rows["x"], rows["y"], torch.searchsorted(tasks, rows["t"]), *noted)
