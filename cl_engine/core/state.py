"""The rules for a strategy's state, and the bytes it takes, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.tree import leaves_with_path
from cl_engine.errors import UsageError

State = dict[str, Any]
NUMBER_BYTES = 8


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
    """Return the bytes that one seed holds, by the top-level keys of the state.

    A tensor ``[S, …]`` counts ``1/S`` of its bytes, one that is shared by the seeds counts whole, a number 8 bytes.
    Only the held rows of a bank count, as only they are saved.
    """
    parts: dict[str, int] = {}
    for path, leaf in leaves_with_path(state):
        tensor = leaf.rows if isinstance(leaf, Bank) else leaf
        size = tensor[0].numel() * tensor.element_size() if isinstance(tensor, Tensor) else NUMBER_BYTES
        parts[path[0]] = parts.get(path[0], 0) + size
    return parts
