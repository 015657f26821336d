"""A memory of past rows, of fixed size: its options, and which rows of each seed it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.state import State
from cl_engine.data.rows import Data
from cl_engine.data.rows_of_seeds import Lens, RowsOfSeeds
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.events import StrategyEvent
from cl_engine.nn.learner import Learner as OfSharedNet
from cl_engine.nn.target import Target
from cl_engine.options import OptionGroup, option
from cl_engine.training.rehearsal import as_rows_arrive, balanced, group_name, groups_in, reservoir, shares_of
from cl_engine.training.selection import ONE_BY_ONE, GroupSlots, Index, greedily, herded, in_equal_shares, newest

Selection = Literal["reservoir", "balanced", "ring", "greedy", "herding"]


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


class MemorySize(OptionGroup):
    """Options of a memory of past rows: its size.

    >>> MemorySize(samples=20).samples
    20
    """

    samples: int = option(500, "rows the memory holds", ge=1)
    bytes: int | None = option(None, "bytes the memory may take; overrides samples", ge=1)


class RowMemory(MemorySize):
    """Options of a memory of past rows: its size, and which rows it keeps.

    >>> RowMemory().samples
    500
    """

    selection: Selection = option(
        "reservoir",
        "reservoir sampling; or equal shares a class of a task: any rows (balanced), the newest (ring), the first (greedy), or "
        "those whose mean features come nearest to the class's (herding)",
    )


class Learner(OfSharedNet, Protocol):
    """The attributes of a strategy that keeps rows.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy has them
    'Strategy'
    """

    def target_of(self, task_id: int) -> Target:
        """Return what a task asks for."""
        ...


class RowsKept:
    """Rows that a strategy keeps in the part ``memory`` of its state: ``x``, ``y``, ``t [S, M, …]``, and how many it has seen.

    Each seed keeps rows of its own choice. Where tasks ask for different things, the memory is divided evenly among these: a
    group is named by the first task that asks for the same.

    >>> RowsKept.start()
    {'memory': {'seen': 0}}
    """

    def __init__(self, learner: Learner, size: MemorySize, selection: Selection) -> None:
        """Keep rows for a strategy, which has the state."""
        self._learner, self._size, self._selection = learner, size, selection

    @staticmethod
    def start() -> State:
        """Return the part of a state before the first experience."""
        return {"memory": {"seen": 0}}

    def check_stream(self, stream: Stream) -> None:
        """Raise a `UsageError` if it cannot choose among the rows of a stream as it is to."""
        if self._selection == "herding" and stream.pieces:
            raise UsageError(
                "selection: 'herding' chooses by what the net makes of rows once they are learned, and with stream.pieces a "
                "memory takes them in before: use 'reservoir', 'balanced', 'ring' or 'greedy'"
            )

    def make_room(self, step: int, group: int, new: list[dict[str, Tensor]]) -> int:
        """Let other groups leave a group its share of the memory, which is divided evenly among what tasks ask for; return it."""
        state, name = self._learner.state, group_name("memory", group)
        others = [other for other in groups_in(state, "memory").values() if other != name and "x" in state[other]]
        for other in (*others, name):
            state[other] = self._thinned(step, state.get(other, {"seen": 0}), len(others) + 1)
        return self._room(new[0], len(others) + 1)

    def take_in(self, step: int, group: int, new: list[dict[str, Tensor]], as_they_come: bool = False) -> None:
        """Take rows of each seed into the memory, in an order that is drawn, or greedily ``as_they_come``."""
        room = self.make_room(step, group, new)
        every, memory = self.with_new(group, new), self._learner.state[group_name("memory", group)]
        rows = len(new[0]["y"])
        held, kept, ranks = every["y"].shape[1] - rows, [], []
        for s, seed in enumerate(self._learner.seeds):
            draw = rng.arrays(seed, "memory", step)
            if self._selection == "reservoir":
                kept.append(reservoir(held, memory["seen"], rows, room, draw))
                continue
            shares = shares_of(every["y"][s], every["t"][s])
            if self._selection == "balanced":
                kept.append(balanced(shares, room, draw))
            elif self._selection == "herding":
                first = memory["rank"][s].argsort().cpu().numpy() if held else np.arange(0)
                order = herded(self._features(s, every["x"][s]), shares, first, room)
                # rows stay in the order they came in, which rounding does not change
                kept.append(np.sort(order))
                ranks.append(torch.from_numpy(np.argsort(order)))
            elif self._selection == "ring":
                kept.append(newest(shares, held, room, draw))
            else:
                kept.append(greedily(shares, held, room, draw, as_they_come))
        self.keep(group, every, kept, rows)
        if ranks:
            self._learner.state[group_name("memory", group)]["rank"] = torch.stack(ranks).to(every["y"].device)

    def as_rows_arrive(
        self,
        key: int,
        group: int,
        every: dict[str, Tensor],
        *,
        rows: int,
        arrival: int,
        visits: int,
        share: int,
        room: int,
    ) -> tuple[Tensor, list[Index]]:
        """Return which rows join each batch ``[S, batches, K]`` while ``rows`` arrive, behind those held, and which are kept."""
        seen, held = self._learner.state[group_name("memory", group)]["seen"], every["y"].shape[1] - rows
        joined, kept = [], []
        for s, seed in enumerate(self._learner.seeds):
            draw = rng.arrays(seed, "memory", key)
            shares: list[int] = []
            slots: GroupSlots | None = None
            how = ONE_BY_ONE.get(self._selection)
            if how is not None:
                shares = shares_of(every["y"][s], every["t"][s]).tolist()
                slots = GroupSlots(shares[:held], room, how, draw)

            def keep(
                there: Index, before: int, draw: Any = draw, shares: list[int] = shares, slots: Any = slots
            ) -> Index:
                new = min(arrival, rows - before)
                if slots is None:
                    return reservoir(len(there) - new, seen + before, new, room, draw)
                arrived = shares[held + before : held + before + new]
                found: Index = slots.taken_by(arrived, len(there) - new)
                return found

            found = as_rows_arrive(held, rows, arrival, visits, share, keep, draw)
            joined.append(found[0])
            kept.append(found[1] if slots is None else np.sort(found[1]))  # by index is by age
        return torch.from_numpy(np.stack(joined)), kept

    def with_new(self, group: int, new: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the rows of a group's memory with new ones of each seed behind them ``[S, N, …]``."""
        memory = self._learner.state.get(group_name("memory", group), {})
        more = {part: torch.stack([own[part] for own in new]) for part in new[0]}
        return {part: torch.cat([memory[part], rows], dim=1) for part, rows in more.items()} if "y" in memory else more

    def keep(self, group: int, every: dict[str, Tensor], kept: Sequence[Index], new: int) -> None:
        """Let a group's memory hold those of its rows that each seed keeps, so many of them new."""
        name, device = group_name("memory", group), every["y"].device
        chosen = [torch.from_numpy(index).to(device) for index in kept]
        rows = [{part: of[s].index_select(0, index) for part, of in every.items()} for s, index in enumerate(chosen)]
        self._learner.state[name] = _held(rows, self._learner.state[name]["seen"] + new)

    def updated(self, step: int, task_id: int, group: int) -> MemoryUpdated:
        """Return what is told of the memory once it has taken in rows of a task."""
        held, state = groups_in(self._learner.state, "memory"), self._learner.state
        own = state[held[group]].get("t")
        of_this = [0] * len(self._learner.seeds) if own is None else (own == task_id).sum(dim=1).tolist()
        rows = sum(state[name]["t"].shape[1] for name in held.values() if "t" in state[name])
        return MemoryUpdated(step=step, task_id=task_id, rows=rows, of_this_task=tuple(of_this))

    def _features(self, place: int, x: Tensor) -> Tensor:
        """Return what the head of one seed's net reads of rows ``[N, D]``."""
        net = {name: leaf[place : place + 1] for name, leaf in self._learner.state["net"].items()}
        found = self._learner.net.all_features(net, x.to(self._learner.net.device))[0]
        return found.flatten(2).mean(dim=2) if found.ndim > 2 else found

    def _room(self, rows: dict[str, Tensor], groups: int) -> int:
        """Return how many rows such as these one of so many groups may hold."""
        each = sum(part[0].numel() * part.element_size() for part in rows.values())
        return (self._size.samples if self._size.bytes is None else max(1, self._size.bytes // each)) // groups

    def _thinned(self, step: int, memory: State, groups: int) -> State:
        """Return a group's memory with no more rows than it may hold beside others, of those there are."""
        if "x" not in memory:
            return memory
        rows = {part: own for part, own in memory.items() if part != "seen"}
        counted = {part: own[0] for part, own in rows.items() if part != "rank"}
        held, room = memory["t"].shape[1], self._room(counted, groups)
        if held <= room:
            return memory
        kept = []
        for s, seed in enumerate(self._learner.seeds):
            draw = rng.arrays(seed, "thinned", step)
            if self._selection == "reservoir":
                index = draw.permutation(held)[:room]
            elif self._selection == "ring":
                index = newest(shares_of(rows["y"][s], rows["t"][s]), held, room, draw)
            elif self._selection == "herding":
                order = rows["rank"][s].argsort().cpu().numpy()
                index = np.sort(in_equal_shares(shares_of(rows["y"][s], rows["t"][s]), order, room))
            else:
                index = balanced(shares_of(rows["y"][s], rows["t"][s]), room, draw)
            kept.append({part: own[s][torch.from_numpy(index).to(own.device)] for part, own in rows.items()})
        return _held(kept, memory["seen"])


def rows_together(memory: State, labels: Tensor, x: Tensor, y: Tensor) -> Data:
    """Return rows of a memory, each seed's its own, under these ``labels [S, M]``, and others ``x, y [N, …]`` behind them."""
    held = memory["x"]
    inputs = torch.cat([held.flatten(0, 1), x])
    index = torch.arange(held.shape[0] * held.shape[1], device=x.device).reshape(held.shape[:2])
    others = torch.arange(index.numel(), len(inputs), device=x.device).expand(len(held), -1)
    index, labels = torch.cat([index, others], dim=1), torch.cat([labels, y.expand(len(held), *y.shape)], dim=1)
    rows = RowsOfSeeds(inputs, index, labels, [Lens() for _ in range(len(held))])
    return Data(*rows.of(0), of_seeds=rows)


def _held(of_seeds: list[dict[str, Tensor]], seen: int) -> State:
    """Return a memory of rows of each seed; without any, where there is no room for one."""
    rows = {part: torch.stack([one[part] for one in of_seeds]) for part in of_seeds[0]}
    return {**(rows if rows["t"].shape[1] else {}), "seen": seen}
