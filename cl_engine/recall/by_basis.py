"""The basis codec: skills as sums over a growing set of directions, without training; the autoencoder's linear rival."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.recall.codec import Batch, Keeping, Report, SkillCodec
from cl_engine.recall.codes import code_of, no_codes, put_code
from cl_engine.recall.numbers import Rows
from cl_engine.recall.stop import Newest, StopRule


class BasisCodec(SkillCodec):
    """Keeps a skill as its coefficients in a basis that gains a direction where the skill does not lie within it.

    A direction, once added, never changes, and a skill reads only those that there were when it was stored: recollections
    do not drift. The new direction is what the others cannot express of the skill (Gram-Schmidt), rounded to few
    bits if so wished; coefficients are those of least squares over the rounded directions.

    >>> from cl_engine.recall.choice import CodecOptions, codec_of
    >>> codec_of(CodecOptions.of({"codec": "basis", "rank": 8}), [0], [40, 10], torch.device("cpu")).rank
    8
    """

    recall_parts = ("basis", "coefficients")

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: Sequence[int],
        device: torch.device,
        *,
        rule: StopRule,
        rank: int | None,
        bits: int,
    ) -> None:
        """Set up: a direction is added while ``rule`` is not met and there are fewer than ``rank`` (None: no limit)."""
        super().__init__(seeds, sizes, device)
        self.rule, self.rank = rule, rank
        tensors = [torch.full((size,), place) for place, size in enumerate(sizes)]
        self._rows = Rows(torch.cat(tensors).to(device), bits, coded=True)

    def start(self) -> State:
        seeds = len(self.seeds)
        return {
            "basis": self._rows.empty(seeds),
            "coefficients": {**no_codes(seeds, self.device), "writes": Bank.empty(1, (0,), device=self.device)},
        }

    def keep(self, state: State, batch: Batch) -> Keeping:
        yield from ()
        for place, row in enumerate(batch.rows):
            vector = batch.vectors[:, place]
            coefficients, given = self._projected(state, vector)
            newest = Newest(batch.probe, batch.original, 0) if place == batch.newest else None
            members = range(len(vector))
            reached = self.rule.reached(given.unsqueeze(1), vector.unsqueeze(1), batch.centre, members, newest)
            held = self._rows.held(state["basis"])
            # all seeds gain a direction as soon as one of them needs it: their bases are rows of one tensor
            if not all(reached) and (self.rank is None or held < self.rank):
                missing = vector - given
                unit = missing / missing.norm(dim=1, keepdim=True).clamp_min(1e-12)
                self._rows.put(state["basis"], held, unit)
                coefficients, given = self._projected(state, vector)
            codes = [np.ascontiguousarray(one).tobytes() for one in coefficients.cpu().numpy().astype("<f4")]
            put_code(state["coefficients"], row, codes)
            state["coefficients"]["writes"].put(row, torch.zeros(1, 0, device=self.device))
        return Report([0] * len(self.seeds))

    def recall(self, state: State, row: int) -> Tensor:
        codes = [np.frombuffer(code, dtype="<f4") for code in code_of(state["coefficients"], row)]
        coefficients = torch.tensor(np.stack(codes), device=self.device)
        if not coefficients.shape[1]:
            return torch.zeros(len(coefficients), self.size, device=self.device)
        directions = self._directions(state, coefficients.shape[1])
        return torch.einsum("sr,srp->sp", coefficients, directions)

    def held(self, state: State) -> int:
        return len(state["coefficients"]["writes"])

    def version(self, state: State, row: int) -> int:
        return hash((row, int(state["coefficients"]["writes"].writes(row))))

    def _directions(self, state: State, count: int) -> Tensor:
        """Return the first directions, ``[S, count, P]``."""
        return torch.stack([self._rows.row(state["basis"], row) for row in range(count)], dim=1)

    def _projected(self, state: State, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least-squares coefficients ``[S, r]`` of a vector ``[S, P]``, and what they give."""
        held = self._rows.held(state["basis"])
        if not held:
            return torch.zeros(len(vector), 0, device=vector.device), torch.zeros_like(vector)
        directions = self._directions(state, held)
        gram = (directions @ directions.transpose(1, 2)).double()
        # rounded directions are not quite orthonormal; a trace of ridge keeps nearly equal ones from blowing up
        ridge = 1e-9 * torch.eye(held, dtype=torch.float64, device=vector.device)
        coefficients = torch.linalg.solve(gram + ridge, torch.einsum("srp,sp->sr", directions, vector).double()).float()
        return coefficients, torch.einsum("sr,srp->sp", coefficients, directions)
