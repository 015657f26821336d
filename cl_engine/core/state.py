"""The rules for a strategy's state, and the bytes it takes, part by part.

One rule says what counts as memory, for all strategies: everything in the state, as answers and further learning need it, but
for what follows from the seeds (a net that is still as it was drawn) and for the part ``diagnostics``, which only the
simulation reads. Those are told apart. A backbone follows from no seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.tree import Path, leaves_with_path, tree_map
from cl_engine.errors import UsageError

State = dict[str, Any]
NUMBER_BYTES = 8
DIAGNOSTICS = "diagnostics"  # the part of a state that answers and learning do without


def check_state(state: Mapping[str, Any], seeds: int, owner: str) -> None:
    """Refuse a state that is not a nested dict of tensors, banks and numbers.

    The first axis of a tensor is that of the seeds, or has length 1 for what all seeds share.

    Raises:
        UsageError: naming the first offending entry.
    """
    if not isinstance(state, Mapping):
        raise UsageError(f"{owner}.start() must return a dict of tensors and numbers, not a {type(state).__name__}")
    for path, leaf in leaves_with_path(state):
        where = f"{owner}: state[{']['.join(map(repr, path))}]"
        if any(not isinstance(key, str) or "/" in key for key in path):
            raise UsageError(f"{where} has a key that is not a string without '/'")
        if isinstance(leaf, Tensor | Bank):
            tensor = leaf.rows if isinstance(leaf, Bank) else leaf
            if tensor.ndim == 0 or tensor.shape[0] not in (1, seeds):
                raise UsageError(
                    f"{where} is a tensor of shape {tuple(tensor.shape)}; "
                    f"its first axis must be the {seeds} seeds (or 1, for what they share)"
                )
        elif not isinstance(leaf, int | float):
            raise UsageError(f"{where} is a {type(leaf).__name__}; a state holds tensors, banks and numbers only")


def bytes_by_part(state: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes that one seed holds in all, by the top-level keys of the state.

    A tensor ``[S, …]`` counts ``1/S`` of its bytes, one that is shared by the seeds counts whole, a number 8 bytes.
    Only the held rows of a bank count, as only they are saved.
    """
    parts: dict[str, int] = {}
    for path, leaf in leaves_with_path(state):
        parts[path[0]] = parts.get(path[0], 0) + _bytes(leaf)
    return parts


def of_seed(state: Mapping[str, Any], place: int) -> State:
    """Return the part of a state that belongs to the seed at this place, its axis of seeds of length 1, over the same tensors."""

    def part(leaf: Any) -> Any:
        if isinstance(leaf, Bank):
            return leaf.of_seed(place)
        return leaf[place : place + 1] if isinstance(leaf, Tensor) and len(leaf) > 1 else leaf

    found: State = tree_map(part, dict(state))
    return found


class Memory:
    """The bytes that one seed holds, by part: those that count, and those that are told apart.

    A leaf follows from the seeds as long as it is, bit for bit, what it is in ``drawn``: the first state that the strategy
    would have without the scenario's backbone (`cl_engine.strategy.Strategy.drawn`).

    >>> memory = Memory({"net": {"w": torch.ones(2, 3), "b": torch.zeros(2, 1)}})
    >>> memory.by_part({"net": {"w": torch.ones(2, 3), "b": torch.ones(2, 1)}, "heads": torch.ones(2, 5)})
    ({'net': 4, 'heads': 20}, {'net': 12})
    """

    def __init__(self, drawn: Mapping[str, Any]) -> None:
        """Count against the first state of a strategy that starts from nothing but seeds and options."""
        self._drawn = {path: leaf for path, leaf in leaves_with_path(drawn) if isinstance(leaf, Tensor | Bank)}

    def by_part(self, state: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
        """Return the bytes that count and those told apart, each by the top-level keys of the state."""
        counted: dict[str, int] = {}
        apart: dict[str, int] = {}
        for path, leaf in leaves_with_path(state):
            parts = counted if self.counts(path, leaf) else apart
            parts[path[0]] = parts.get(path[0], 0) + _bytes(leaf)
        return counted, apart

    def counts(self, path: Path, leaf: Any) -> bool:
        """Return whether a leaf of a state counts; one that no longer follows from the seeds is not compared again."""
        drawn = self._drawn.get(path)
        alike = drawn is not None and isinstance(drawn, Bank) == isinstance(leaf, Bank)
        same = alike and _same(_tensor(drawn), _tensor(leaf))
        if not same:
            self._drawn.pop(path, None)  # so that a net in training is not held twice
        return not same and path[0] != DIAGNOSTICS


def _tensor(leaf: Any) -> Any:
    return leaf.rows if isinstance(leaf, Bank) else leaf


def _same(one: Tensor, other: Any) -> bool:
    if not isinstance(other, Tensor) or (one.dtype, one.shape) != (other.dtype, other.shape) or not one.numel():
        return False
    return torch.equal(one, other.to(one.device))  # what was on the CPU may be taken up on a GPU


def _bytes(leaf: Any) -> int:
    tensor = _tensor(leaf)
    return tensor[0].numel() * tensor.element_size() if isinstance(tensor, Tensor) else NUMBER_BYTES
