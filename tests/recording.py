"""A recording of a training step on a CPU that behaves as a CUDA graph does, to try on it what is replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cl_engine.testing.waiting import refuse_to_wait


class Recording(TorchDispatchMode):
    """Keeps every operation with the very tensors it read and wrote, and does them again on the same memory.

    Numbers that Python computed are what they were; waiting for a value (``.item()``, indexing by a mask) is an error, as
    it is in a CUDA graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # what was written to, as it was

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        refuse_to_wait(func, args)
        unsaid = args[3:5] if func is torch.ops.aten.native_batch_norm.default else ()  # statistics, which it writes to
        for tensor in (*written(func, args, kwargs), *unsaid):
            self.before.setdefault(tensor.data_ptr(), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        """Put back what was written to: nothing is done while recording."""
        with torch.no_grad():
            for tensor, old in self.before.values():
                tensor.copy_(old)

    @torch.no_grad()
    def replay(self) -> None:
        """Do all operations again; each leaves its result where it left it before."""
        for func, args, kwargs, result in self.calls:
            if func.is_view:
                continue
            again = func(*args, **kwargs)
            if not written(func, args, kwargs):
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor):
                        old.detach().copy_(new)


def written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that an operation writes to, beside its result."""
    found = []
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return found


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Return what does all that ``step`` would do, which is not done now."""
    recording, drawn = Recording(), torch.get_rng_state()
    try:
        with recording:
            step()
    finally:
        recording.undo()
        torch.set_rng_state(drawn)
    return recording.replay
