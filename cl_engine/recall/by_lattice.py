"""The quantised codec: skills as quantised differences from their start; the rival any other code must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.recall import lattice
from cl_engine.recall.codec import Batch, Keeping, Report, SkillCodec
from cl_engine.recall.codes import code_of, no_codes, put_code


class QuantisedCodec(SkillCodec):
    """Keeps every weight of a skill in a few bits, entropy-coded; nothing is shared, nothing ever changes.

    >>> codec = QuantisedCodec([0], [40, 10], torch.device("cpu"), bits=4)
    >>> codec.held(codec.start())
    0
    """

    recall_parts = ("codes",)

    def __init__(self, seeds: Sequence[int], sizes: Sequence[int], device: torch.device, *, bits: int) -> None:
        """Set up with this many bits a weight before entropy coding."""
        super().__init__(seeds, sizes, device)
        self.bits = bits

    def start(self) -> State:
        steps = Bank.empty(len(self.seeds), (len(self.sizes),), torch.float32, self.device)
        return {"codes": {**no_codes(len(self.seeds), self.device), "steps": steps}}

    def keep(self, state: State, batch: Batch) -> Keeping:
        yield from ()
        for vector, row in zip(batch.vectors.unbind(dim=1), batch.rows, strict=True):
            steps = lattice.steps_of(vector, self.sizes, self.bits)
            symbols = lattice.rounded(vector, lattice.spread(steps, self.sizes)).cpu().numpy()
            put_code(state["codes"], row, [lattice.packed(one) for one in symbols])
            state["codes"]["steps"].put(row, steps)
        return Report([0] * len(self.seeds))

    def recall(self, state: State, row: int) -> Tensor:
        part = state["codes"]
        symbols = torch.stack([torch.tensor(lattice.unpacked(code)) for code in code_of(part, row)])
        return lattice.located(symbols.to(self.device), lattice.spread(part["steps"][row], self.sizes))

    def held(self, state: State) -> int:
        return len(state["codes"]["steps"])

    def version(self, state: State, row: int) -> int:
        return hash((row, int(state["codes"]["steps"].writes(row))))


class MeanCodec(SkillCodec):
    """Keeps the mean of all skills and gives it back for each of them: the control that shows what the others add.

    One that is kept again is one more: what it was before is not there to be taken away.

    >>> codec = MeanCodec([0], [40, 10], torch.device("cpu"))
    >>> codec.held(codec.start())
    0
    """

    recall_parts = ("mean_skill",)

    def start(self) -> State:
        return {
            "mean_skill": {"sum": torch.zeros(len(self.seeds), self.size, device=self.device), "skills": 0},
            "rows": 0,
        }

    def keep(self, state: State, batch: Batch) -> Keeping:
        yield from ()
        part = state["mean_skill"]
        part["sum"] = part["sum"] + batch.vectors.sum(dim=1)
        part["skills"] += len(batch.rows)
        state["rows"] = max(state["rows"], max(batch.rows) + 1)
        return Report([0] * len(self.seeds))

    def recall(self, state: State, row: int) -> Tensor:
        part = state["mean_skill"]
        mean: Tensor = part["sum"] / max(1, part["skills"])
        return mean

    def held(self, state: State) -> int:
        return int(state["rows"])

    def version(self, state: State, row: int) -> int:
        return int(state["mean_skill"]["skills"])

    def moving(self, state: State) -> list[int]:
        return list(range(self.held(state)))
