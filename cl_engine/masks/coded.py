"""Masks of many tasks, entropy-coded: what the masks of seven tasks make of a weight is one symbol of a Huffman code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.masks.huffman import Numbers, decode, encode
from cl_engine.masks.layout import Layout
from cl_engine.nn.net import Params

GROUP = 7  # tasks whose masks are coded together, as released for WSN
PAGE = 256  # bytes of a row of the bank that holds the codes


class CodedMasks:
    """Binary masks of tasks, the bits that seven of them have for a weight Huffman-coded as one number (Kang et al. 2022).

    Masks that overlap take less than a bit a weight and task; the last, unfinished group is coded anew with each task. Codes
    are bytes in rows of a bank, a group beginning with a row of its own, for each seed as far as its code goes and zeros beyond.

    >>> masks = CodedMasks(Layout({"w": (3,)}))
    >>> state = masks.empty(1, torch.device("cpu"))
    >>> masks.put(state, 0, {"w": torch.tensor([[True, False, True]])})
    >>> masks.of(state, 0)["w"]
    tensor([[ True, False,  True]])

    Attributes:
        layout: the weights that are masked.
    """

    def __init__(self, layout: Layout) -> None:
        """Set up for masks over the tensors of ``layout``."""
        self.layout = layout

    def empty(self, seeds: int, device: torch.device) -> State:
        """Return the part of a state that holds masks, without one."""
        groups = Bank.empty(1, (1,), torch.int64, device)  # the row that each begins with
        return {"codes": Bank.empty(seeds, (PAGE,), torch.uint8, device), "groups": groups, "tasks": 0}

    def put(self, state: State, task_id: int, masks: Mapping[str, Tensor]) -> None:
        """Keep the masks ``{name: [S, …]}`` of the next task."""
        if task_id != state["tasks"]:
            raise IndexError(f"the mask of task {task_id} cannot follow those of {state['tasks']} tasks")
        codes, groups = state["codes"], state["groups"]
        group, place = divmod(task_id, GROUP)
        bits = self.layout.row(masks).cpu().numpy().astype(np.int64) << place
        if place:
            bits |= self._symbols(state, group)
        else:
            groups.put(group, torch.tensor([[len(codes)]]).to(codes.rows.device))
        first = groups.numbers(group)[0]
        coded = [encode(each, 2 << place) for each in bits]
        pages = -(-max(map(len, coded)) // PAGE)
        whole = torch.zeros(len(coded), pages * PAGE, dtype=torch.uint8)
        for seed, data in enumerate(coded):
            whole[seed, : len(data)] = torch.from_numpy(data)
        codes.keep_first(first)
        for page, row in enumerate(whole.split(PAGE, dim=1)):
            codes.put(first + page, row.to(codes.rows.device))
        state["tasks"] = task_id + 1

    def of(self, state: State, task_id: int) -> Params:
        """Return the masks of a task, ``{name: [S, …]}`` of booleans.

        Raises:
            IndexError: if it has none yet.
        """
        if not 0 <= task_id < state["tasks"]:
            raise IndexError(f"task {task_id} has no mask; there are {state['tasks']}")
        group, place = divmod(task_id, GROUP)
        bits = (self._symbols(state, group) >> place) & 1
        return self.layout.named(torch.from_numpy(bits.astype(bool)).to(state["codes"].rows.device))

    def several(self, state: State, first: int) -> dict[int, Params]:
        """Return the masks of all tasks from this one on, each group read once."""
        found: dict[int, Params] = {}
        for group in range(first // GROUP, -(-state["tasks"] // GROUP)):
            symbols = self._symbols(state, group)
            for task in range(max(first, group * GROUP), min(state["tasks"], (group + 1) * GROUP)):
                bits = ((symbols >> (task - group * GROUP)) & 1).astype(bool)
                found[task] = self.layout.named(torch.from_numpy(bits).to(state["codes"].rows.device))
        return found

    def bits(self, state: State) -> float:
        """Return how many bits the codes of a seed take for each weight and task, whole rows counted."""
        pages, tasks = len(state["codes"]), int(state["tasks"])
        return 8 * pages * PAGE / (self.layout.size * tasks)

    def _symbols(self, state: State, group: int) -> Numbers:
        """Return the bits of a group's masks, ``[S, size]``, those of its first task the lowest."""
        groups, rows = state["groups"], state["codes"].rows
        first = groups.numbers(group)[0]
        end = groups.numbers(group + 1)[0] if group + 1 < len(groups) else rows.shape[1]
        kinds = 1 << min(GROUP, state["tasks"] - group * GROUP)
        data = rows[:, first:end].flatten(1).cpu().numpy()
        return np.stack([decode(each, kinds, self.layout.size) for each in data])
