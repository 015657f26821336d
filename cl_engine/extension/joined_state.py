"""Checkpoints of runs that differ in seeds alone, put together along the axis of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.tree import Path, leaves_with_path, unflatten
from cl_engine.metrics.running import Ledger
from cl_engine.results.joined_rows import NotAlike


def joined_state(
    states: Sequence[Mapping[str, Any]],
    seeds: Sequence[Sequence[int]],
    order: Sequence[int],
    like: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the state of a strategy that has learned all seeds, given those that have learned some of them each.

    Args:
        states: the states.
        seeds: the seeds of each.
        order: all of them, as the whole has them.
        like: a state of a strategy of all the seeds, which tells what they share, as far as it has the same parts.

    Raises:
        NotAlike: naming a part of the state that does not have the same form for all seeds.
    """
    leaves = [dict(leaves_with_path(state)) for state in states]
    if any(list(leaves[0]) != list(other) for other in leaves[1:]):
        odd = sorted({"/".join(path) for path in {*leaves[0]} ^ {path for each in leaves[1:] for path in each}})
        raise NotAlike(f"what was learned has other parts for other seeds{': ' + odd[0] if odd else ''}")
    flat = [seed for own in seeds for seed in own]
    places = torch.tensor([flat.index(seed) for seed in order])
    shared = {path: len(_tensor(leaf)) == 1 for path, leaf in leaves_with_path(like) if isinstance(leaf, Tensor | Bank)}
    counts = [len(own) for own in seeds]
    return unflatten(
        {path: _joined(path, [each[path] for each in leaves], counts, places, shared.get(path)) for path in leaves[0]}
    )


def _joined(path: Path, leaves: Sequence[Any], counts: Sequence[int], places: Tensor, shared: bool | None) -> Any:
    name, one = "/".join(path), leaves[0]
    if not isinstance(one, Tensor | Bank):
        if any(other != one for other in leaves[1:]):
            raise NotAlike(f"what was learned counts otherwise for other seeds ({name})")
        return one
    rows = [_tensor(leaf) for leaf in leaves]
    if any(each.shape[1:] != rows[0].shape[1:] or each.dtype != rows[0].dtype for each in rows):
        shapes = " and ".join(str(list(each.shape[1:])) for each in rows)
        raise NotAlike(f"what was learned has another shape for other seeds ({name}: {shapes})")
    if isinstance(one, Bank) and any(not np.array_equal(one.written, leaf.written) for leaf in leaves):
        raise NotAlike(f"what was learned was written at other times for other seeds ({name})")
    if shared is None:
        told = [len(each) == 1 for each, count in zip(rows, counts, strict=True) if count > 1]
        shared = bool(told) and told[0]  # where each has one seed nothing tells, and a row for each serves as well
    if shared:
        if not all(torch.equal(rows[0], each) for each in rows):
            raise NotAlike(f"what all seeds share was learned otherwise by others ({name})")
        return one
    whole = torch.cat([each.expand(count, *each.shape[1:]) for each, count in zip(rows, counts, strict=True)])
    whole = whole.index_select(0, places.to(whole.device))
    return Bank(whole, one.written) if isinstance(one, Bank) else whole


def _tensor(leaf: Tensor | Bank) -> Tensor:
    return leaf.rows if isinstance(leaf, Bank) else leaf


def joined_ledgers(
    states: Sequence[Mapping[str, Any]], seeds: Sequence[Sequence[int]], order: Sequence[int]
) -> dict[str, Any]:
    """Return the state of the ledger of all seeds, given those of some each (`cl_engine.metrics.running.Ledger.state`).

    Tests that still hold are kept where all know them by the same fingerprint; the others are made again when they are needed.
    """
    flat = [seed for own in seeds for seed in own]
    places = [flat.index(seed) for seed in order]
    before = np.cumsum([0, *(len(own) for own in seeds)])
    stopped = [int(before[k]) + place for k, state in enumerate(states) for place in state.get("stopped", ())]
    known = [state["measured"] for state in states]
    keys = [{tuple(key): row for row, key in enumerate(each["keys"].tolist())} for each in known]
    same = [key for key in keys[0] if all(key in other for other in keys[1:])]
    found = {
        name: np.concatenate(
            [each[name][[own[key] for key in same]] for each, own in zip(known, keys, strict=True)], axis=1
        )[:, places]
        for name in ("score", "sums")
    }
    # rows are kept for more tasks than were met, by each as many as it had use for
    room = max(len(state["now"]) for state in states)
    return {
        **states[0],
        **{name: max((state[name] for state in states), key=len) for name in ("first_learned", "before_at")},
        "stopped": sorted(places.index(place) for place in stopped),
        "measured": {"keys": np.array(same, dtype=np.int64).reshape(-1, 2), **found},
        **{
            name: np.concatenate([_to(state[name], room) for state in states], axis=1)[:, places]
            for name in Ledger.ARRAYS
        },
    }


def _to(rows: np.ndarray, count: int) -> np.ndarray:
    return np.pad(rows, ((0, count - len(rows)), (0, 0)), constant_values=np.nan)
