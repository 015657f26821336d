"""What all strategies that keep the net of every task have in common, whole or as a code: decoding, and what that reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from cl_engine.core.state import State, bytes_by_part
from cl_engine.nn.net import Params


@runtime_checkable
class KeepsNets(Protocol):
    """A strategy that keeps the net of every task and gives it back; `cl_engine.testing.CodesContract` holds it to that.

    A strategy is one by having these two members; it learns a task's net and encodes it in ``learn``.

    >>> from types import SimpleNamespace
    >>> isinstance(SimpleNamespace(state={}, read_by_recall=("nets",), decoded=lambda task_id: {}), KeepsNets)
    True
    """

    state: State

    @property
    def read_by_recall(self) -> Collection[str]:
        """Parts of the state that decoding reads and that do not follow from the seeds."""

    def decoded(self, task_id: int) -> Params:
        """Return the net of a task, ``{name: [S, …]}``; of one not yet met the net that it would start from."""


def recall_bytes(strategy: KeepsNets) -> int:
    """Return the bytes of one seed that decoding the nets of all tasks reads, but for what follows from the seeds."""
    read = strategy.read_by_recall
    return sum(size for part, size in bytes_by_part(strategy.state).items() if part in read)
