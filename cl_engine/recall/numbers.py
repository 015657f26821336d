"""Rows of numbers in fewer bits: 32, 16, or 8 with a scale for each group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_engine.bank import Bank
from cl_engine.memory import State

DTYPES = {32: torch.float32, 16: torch.float16, 8: torch.int8}


def no_rows(seeds: int, width: int, groups: int, bits: int, device: torch.device) -> State:
    """Return banks for rows of ``width`` numbers in ``bits`` each; with 8 bits a scale for each of the groups."""
    state: State = {"numbers": Bank.empty(seeds, (width,), DTYPES[bits], device)}
    if bits == 8:
        state["scales"] = Bank.empty(seeds, (groups,), torch.float32, device)
    return state


def put_row(state: State, row: int, values: Tensor, groups: Tensor) -> None:
    """Write ``values [S, width]``; ``groups [width]`` says which numbers share a scale."""
    numbers: Bank = state["numbers"]
    if "scales" not in state:
        numbers.put(row, values.to(numbers.rows.dtype))
        return
    count = state["scales"].rows.shape[2]
    largest = torch.zeros(len(values), count, device=values.device)
    largest.scatter_reduce_(1, groups.expand_as(values), values.abs(), "amax")
    scales = (largest / 127).clamp_min(1e-30)
    numbers.put(row, (values / scales[:, groups]).round().to(torch.int8))
    state["scales"].put(row, scales)


def row_of(state: State, row: int, groups: Tensor) -> Tensor:
    """Return a row that `put_row` wrote, as float32 ``[S, width]``."""
    values: Tensor = state["numbers"][row].to(torch.float32)
    return values * state["scales"][row][:, groups] if "scales" in state else values


def column_groups(shapes: Sequence[torch.Size], device: torch.device) -> Tensor:
    """Return a group for every number of matrices ``[out, in]`` and vectors laid end to end: a column, or a vector.

    The columns of a decoder's last matrix belong to one hidden unit each, and differ in size.
    """
    groups, first = [], 0
    for shape in shapes:
        width = shape[1] if len(shape) > 1 else 1
        groups.append(first + torch.arange(width).repeat(shape.numel() // width))
        first += width
    return torch.cat(groups).to(device)
