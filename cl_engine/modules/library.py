"""A library of learned modules, each kept once however many tasks use it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.masks.layout import Layout
from cl_engine.nn.division import Division
from cl_engine.nn.net import Net, Params


@dataclass(frozen=True)
class Module:
    """A module: its depth and row in the library, the task that brought it, and how many tasks use it.

    >>> Module(depth=0, row=2, owner=1, uses=3).uses
    3
    """

    depth: int
    row: int
    owner: int
    uses: int


class Library:
    """Modules as rows, a bank for each depth, and tasks as paths: for each depth the row it uses, seed by seed.

    Seeds may choose differently, so each has rows of its own number; a bank is as long as the longest needs. Modules
    are never written over. What all modules of a depth share is not kept with each: buffers of integers (they count
    batches, or never change) and weights that the net itself has frozen.

    >>> from cl_engine.runs.plugins import net_builder
    >>> from cl_engine.nn.division import division
    >>> net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    >>> Library(net, division(net)).depths
    3
    """

    def __init__(self, net: Net, parts: Division, apart: Collection[str] = ()) -> None:
        """Set up for a net cut into these parts; tensors that are kept ``apart`` belong to no module."""
        self._net, self.depths = net, len(parts)
        self.shared = [name for part in parts for name in part if name in apart or _is_shared(net, name)]
        self.layouts = [Layout.of(net, [name for name in part if name not in self.shared]) for part in parts]

    def start(self, seeds: int) -> State:
        """Return the library without a module."""
        device = self._net.device
        return {
            "modules": {f"{d}": Bank.empty(seeds, (one.size,), device=device) for d, one in enumerate(self.layouts)},
            "paths": Bank.empty(seeds, (self.depths,), torch.int64, device),
            "held": torch.zeros(seeds, self.depths, dtype=torch.int64, device=device),
        }

    def params(self, state: State, path: Tensor) -> Params:
        """Return the weights along paths ``[S, depths]``, ``{name: [S, …]}``."""
        found: Params = {}
        for depth, layout in enumerate(self.layouts):
            rows = state["modules"][f"{depth}"].rows
            index = path[:, depth].reshape(-1, 1, 1).expand(-1, 1, rows.shape[2])
            found |= layout.named(rows.gather(1, index).squeeze(1))
        return found

    def add(self, state: State, params: Params, path: Tensor, new: Tensor) -> Tensor:
        """Keep the modules of ``params`` that are new, ``[S, depths]``, and return the path with their rows in it."""
        path = path.clone()
        for depth, layout in enumerate(self.layouts):
            bank: Bank = state["modules"][f"{depth}"]
            row = layout.row(params)
            for seed in new[:, depth].nonzero().flatten().tolist():
                index = int(state["held"][seed, depth])
                whole = bank[index].clone() if index < len(bank) else torch.zeros_like(row)
                whole[seed] = row[seed]
                bank.put(index, whole)
                path[seed, depth] = index
                state["held"][seed, depth] += 1
        return path

    def hold(self, state: State, sets: Sequence[Tensor], paths: Tensor) -> None:
        """Hold these sets of weights of each depth ``[S, K, size]`` as the only modules, but for those on no path.

        ``paths [S, T, depths]`` are of all tasks, and take the place of those before.
        """
        state |= self.start(len(paths))
        numbered = paths.clone()
        for depth, rows in enumerate(sets):
            chosen = paths[:, :, depth]
            used = torch.zeros(rows.shape[:2], dtype=torch.bool, device=rows.device).scatter_(1, chosen, True)
            count = used.sum(dim=1)
            first = used.int().argsort(dim=1, descending=True, stable=True)[:, : int(count.max())]
            kept = rows.gather(1, first.unsqueeze(2).expand(-1, -1, rows.shape[2]))
            kept[~used.gather(1, first)] = 0
            state["modules"][f"{depth}"], state["held"][:, depth] = Bank(kept), count
            numbered[:, :, depth] = (used.cumsum(dim=1) - 1).gather(1, chosen)
        state["paths"] = Bank(numbered)

    def modules(self, state: State, seed: int) -> list[Module]:
        """Return all modules that one seed holds, by depth and row."""
        paths, held = state["paths"].rows[seed], state["held"][seed].tolist()
        found = []
        for depth, count in enumerate(held):
            for row in range(count):
                users = (paths[:, depth] == row).nonzero().flatten().tolist()
                found.append(Module(depth, row, users[0], len(users)))
        return found


def _is_shared(net: Net, name: str) -> bool:
    return not net.dtypes[name].is_floating_point or name in net.frozen
