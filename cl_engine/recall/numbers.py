"""Rows of numbers in fewer bits: float32, float16, or whole numbers with a scale for each group, entropy-coded or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.recall.codes import code_of, no_codes, put_code
from cl_engine.recall.lattice import packed, unpacked

FLOATS = {32: torch.float32, 16: torch.float16}


class Rows:
    """Writes rows of ``len(groups)`` numbers into a part of a state and reads them back; keeps none itself.

    With 16 or 32 bits numbers are kept as floats; with 8 or fewer as whole multiples of a scale that the numbers of a
    group share, the largest of the group being the largest such number; ``coded``: entropy-coded as well.

    >>> rows = Rows(torch.zeros(4, dtype=torch.int64), bits=8)
    >>> part = rows.empty(seeds=1)
    >>> rows.put(part, 0, torch.tensor([[0.0, 0.5, -1.0, 1.0]]))
    >>> rows.row(part, 0)
    tensor([[ 0.0000,  0.5039, -1.0000,  1.0000]])
    """

    def __init__(self, groups: Tensor, bits: int, coded: bool = False) -> None:
        """Set up; ``groups [width]`` says which numbers share a scale, from 0 up."""
        self.groups, self.bits = groups, bits
        self.coded = coded and bits <= 8

    def empty(self, seeds: int) -> State:
        """Return the part of a state, without rows."""
        device, width = self.groups.device, len(self.groups)
        if self.bits in FLOATS:
            return {"numbers": Bank.empty(seeds, (width,), FLOATS[self.bits], device)}
        scales = Bank.empty(seeds, (int(self.groups.max()) + 1,), torch.float32, device)
        if self.coded:
            return {**no_codes(seeds, device), "scales": scales}
        return {"numbers": Bank.empty(seeds, (width,), torch.int8, device), "scales": scales}

    def held(self, part: State) -> int:
        """Return the number of rows."""
        return len(part["scales"] if "scales" in part else part["numbers"])

    def writes(self, part: State, row: int) -> int:
        """Return how often a row was written."""
        return int((part["scales"] if "scales" in part else part["numbers"]).writes(row))

    def put(self, part: State, row: int, values: Tensor) -> None:
        """Write ``values [S, width]`` over a row, or append it."""
        if self.bits in FLOATS:
            part["numbers"].put(row, values.to(FLOATS[self.bits]))
            return
        largest = torch.zeros(len(values), part["scales"].rows.shape[2], device=values.device)
        largest.scatter_reduce_(1, self.groups.expand_as(values), values.abs(), "amax")
        scales = (largest / float(2 ** (self.bits - 1) - 1)).clamp_min(1e-30)
        whole = (values / scales[:, self.groups]).round().to(torch.int8)
        if self.coded:
            put_code(part, row, [packed(one) for one in whole.cpu().numpy()])
        else:
            part["numbers"].put(row, whole)
        part["scales"].put(row, scales)

    def row(self, part: State, row: int) -> Tensor:
        """Return a row as float32 ``[S, width]``."""
        if self.bits in FLOATS:
            values: Tensor = part["numbers"][row].to(torch.float32)
            return values
        codes = [torch.tensor(unpacked(code)) for code in code_of(part, row)] if self.coded else []
        whole = torch.stack(codes) if self.coded else part["numbers"][row]
        scales: Tensor = part["scales"][row][:, self.groups]
        return whole.to(scales) * scales


def column_groups(shapes: Sequence[torch.Size], sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return a group for every number of matrices ``[out, in]`` and vectors laid end to end.

    A group is a column, as columns of a decoder belong to one hidden unit each and differ in size. Where the outputs
    are the weights of tensors of these ``sizes``, which differ in size too, it is the part of a column in one tensor.
    """
    groups, first = [], 0
    for shape in shapes:
        width = shape[1] if len(shape) > 1 else 1
        parts = list(sizes) if shape[0] == sum(sizes) else [shape[0]]
        tensor = torch.arange(len(parts)).repeat_interleave(torch.tensor(parts))
        groups.append((first + tensor.unsqueeze(1) * width + torch.arange(width)).flatten())
        first += len(parts) * width
    return torch.cat(groups).to(device)
