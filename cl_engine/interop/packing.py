"""Snapshots of several seeds as one state: tensors with the seed axis first, the descriptions as compressed bytes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.interop.snapshot import Snapshot

DESCRIPTION = "description"


def packed(snapshots: Sequence[Snapshot]) -> State:
    """Return the state that holds these snapshots, one a seed; its top-level keys are the parts of memory.

    Where seeds hold tensors of different sizes, the rest of the shorter is zeros.
    """
    state: State = {}
    for part in dict.fromkeys(name for one in snapshots for name in one.tensors):
        held = [one.tensors.get(part, []) for one in snapshots]
        count = max(map(len, held))
        state[part] = {
            f"{k:05d}": _side_by_side([own[k] if k < len(own) else None for own in held]) for k in range(count)
        }
    texts = [json.dumps([one.description, one.lost, _shapes(one)]).encode() for one in snapshots]
    lines = [torch.frombuffer(bytearray(zlib.compress(text, 9)), dtype=torch.uint8) for text in texts]
    return {**state, DESCRIPTION: {"bytes": _side_by_side(lines)}}


def unpacked(state: State, seed: int) -> Snapshot:
    """Return the snapshot of the ``seed``-th seed; its tensors are views of the state's."""
    held = state[DESCRIPTION]["bytes"][seed].cpu().numpy().tobytes()
    description, lost, shapes = json.loads(zlib.decompressobj().decompress(held))
    tensors = {
        part: [_cut(state[part][f"{k:05d}"][seed], shape) for k, shape in enumerate(each)]
        for part, each in shapes.items()
    }
    return Snapshot(description, tensors, lost)


def _shapes(snapshot: Snapshot) -> dict[str, list[list[int]]]:
    return {part: [list(tensor.shape) for tensor in held] for part, held in snapshot.tensors.items()}


def _cut(row: Tensor, shape: list[int]) -> Tensor:
    return row if list(row.shape) == shape else row.flatten()[: prod(shape)].reshape(shape)


def _side_by_side(tensors: Sequence[Tensor | None]) -> Tensor:
    """Return tensors as one ``[S, …]``, flat and filled up with zeros if their shapes differ."""
    present = [tensor for tensor in tensors if tensor is not None]
    if len(present) == len(tensors) and len({tensor.shape for tensor in present}) == 1:
        return torch.stack([tensor.detach() for tensor in present])
    out = present[0].new_zeros(len(tensors), max(tensor.numel() for tensor in present))
    for row, tensor in zip(out, tensors, strict=True):
        if tensor is not None:
            row[: tensor.numel()] = tensor.detach().flatten()
    return out
