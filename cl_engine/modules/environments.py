"""A library of nets by environment: how inputs are described, which entry is nearest, and what is told of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.core.bank import Bank, empty_banks
from cl_engine.core.state import State
from cl_engine.events import StrategyEvent
from cl_engine.nn.net import Params
from cl_engine.training.early_stopping import where_seeds

NONE = -1  # no entry
LEAST = 1e-6  # deviation that a number has at least: of one that is the same in all rows, any difference is great


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentMatched(StrategyEvent):
    """The entry of the library that rows are nearest to, by seed, and whether it is near (1) or they are new (0).

    ``distance`` is the root mean square, over the numbers that describe rows, of the difference in deviations of single rows.
    Where there is no entry, or none of the task that is told, ``entry`` is −1 and ``distance`` infinite.

    >>> EnvironmentMatched(step=3, task_id=0, entry=(0, 1), distance=(0.02, 0.3), near=(1, 0)).near
    (1, 0)
    """

    task_id: int
    entry: tuple[int, ...]
    distance: tuple[float, ...]
    near: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateJudged(StrategyEvent):
    """What a candidate (``part``) reached on validation rows, by seed (more is better); −∞ where a seed has no such candidate.

    ``keep`` is the stored net as it is, ``tune`` that net fitted, ``new`` an untrained net fitted, ``shared`` the net that all
    environments share as it is, ``shared tuned`` that net fitted.

    >>> CandidateJudged(step=3, task_id=0, part="tune", validation=(0.7, 0.6)).part
    'tune'
    """

    task_id: int
    part: str
    validation: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetReplaced(StrategyEvent):
    """The entry whose net was replaced, by seed (−1: none was), with scores on validation rows of the old net and the new.

    >>> NetReplaced(step=3, task_id=0, entry=(0, -1), before=(0.6, 0.7), after=(0.7, 0.7)).entry
    (0, -1)
    """

    task_id: int
    entry: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """What rows are like: mean and deviation, over rows, of ``D`` numbers of each.

    >>> Description.of(torch.tensor([[[1.0], [3.0]]])).mean
    tensor([[2.]])

    Attributes:
        mean: ``[S, D]``.
        deviation: ``[S, D]``.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> Description:
        """Describe rows by their numbers ``[S, N, D]``."""
        return cls(numbers.mean(dim=1), numbers.std(dim=1, correction=0))


class NetLibrary:
    """Nets by environment in a strategy's state: each seed has entries of its own, and at most ``most``.

    An entry that a seed does not have is one that it has not used.

    >>> library, state = NetLibrary(most=4), NetLibrary.start({"w": torch.zeros(2, 3)}, numbers=1)
    >>> rows = Description(torch.ones(2, 1), torch.ones(2, 1))
    >>> library.nearest(state, rows)[0]
    tensor([-1, -1])
    >>> library.put(state, library.free(state), rows, {"w": torch.ones(2, 3)}, task=0)
    >>> library.use(state, torch.tensor([0, 0]))
    >>> library.nearest(state, rows)
    (tensor([0, 0]), tensor([0., 0.]))
    """

    def __init__(self, most: int) -> None:
        """Hold at most so many entries of a seed."""
        self._most = most

    @staticmethod
    def start(net: Params, numbers: int, without: Collection[str] = ()) -> State:
        """Return a library without entries, for nets like ``net {name: [S, …]}`` that are described by so many numbers.

        Weights ``without`` a place in it are the same in all nets.
        """
        first = next(iter(net.values()))
        seeds, device = len(first), first.device
        return {
            "nets": empty_banks(net, without),
            "descriptors": Bank.empty(seeds, (2, numbers), device=device),
            "tasks": Bank.empty(seeds, (), torch.int64, device),
            "used": Bank.empty(seeds, (), torch.int64, device),
        }

    @staticmethod
    def nearest(state: State, rows: Description, task: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the nearest entry of each seed ``[S]`` and its distance ``[S]``; where ``task`` is told, among its own.

        Numbers are compared in deviations of single rows, as they are in the mean over a seed's entries.
        """
        held: Tensor = state["used"].rows > 0
        if not held.shape[1]:
            none = torch.full((len(held),), NONE, device=held.device)
            return none, torch.full(none.shape, torch.inf, device=held.device)
        mean, deviation = state["descriptors"].rows.unbind(dim=2)
        scale = (deviation * held.unsqueeze(2)).sum(dim=1) / held.sum(dim=1, keepdim=True)
        apart = (mean - rows.mean.unsqueeze(1)) / scale.clamp_min(LEAST).unsqueeze(1)
        if task is not None:
            held = held & (state["tasks"].rows == task)
        distance, entry = apart.square().mean(dim=2).sqrt().masked_fill(~held, torch.inf).min(dim=1)
        return torch.where(held.any(dim=1), entry, NONE), distance

    @staticmethod
    def nets(state: State, entry: Tensor, otherwise: Params) -> Params:
        """Return the net of each seed's entry ``[S]``, and ``otherwise`` where that is −1."""
        held: dict[str, Bank] = state["nets"]
        if bool((entry == NONE).all()):
            return otherwise
        at = torch.arange(len(entry), device=entry.device), entry.clamp_min(0)
        stored = {name: where_seeds(entry != NONE, bank.rows[at], otherwise[name]) for name, bank in held.items()}
        return {**otherwise, **stored}

    def free(self, state: State) -> Tensor:
        """Return where each seed's next entry goes ``[S]``: where it has none, else in the place of the least used one."""
        used: Tensor = state["used"].rows
        if used.shape[1] < self._most:
            used = torch.cat([used, used.new_zeros(len(used), 1)], dim=1)
        return used.argmin(dim=1)

    def put(self, state: State, entry: Tensor, rows: Description, net: Params, task: int) -> None:
        """Write new entries ``[S]``, used by nobody yet, in the place of what was there; −1: none of this seed."""
        _write(state["descriptors"], entry, torch.stack([rows.mean, rows.deviation], dim=1))
        _write(state["tasks"], entry, torch.full_like(entry, task))
        _write(state["used"], entry, torch.zeros_like(entry))
        self.replace(state, entry, net)

    @staticmethod
    def replace(state: State, entry: Tensor, net: Params) -> None:
        """Write the nets of entries ``[S]``; −1: none of this seed."""
        for name, bank in state["nets"].items():
            _write(bank, entry, net[name])

    @staticmethod
    def use(state: State, entry: Tensor) -> None:
        """Count that entries ``[S]`` are used once more."""
        at = torch.arange(len(entry), device=entry.device), entry
        _write(state["used"], entry, state["used"].rows[at] + 1)


def _write(bank: Bank, entry: Tensor, row: Tensor) -> None:
    """Write each seed's row into its own entry; those of other seeds stay, and are zeros where they are added."""
    for place in sorted({*entry.tolist()} - {NONE}):
        before = bank[place] if place < len(bank) else torch.zeros_like(row)
        bank.put(place, where_seeds(entry == place, row, before))
