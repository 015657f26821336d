"""What tasks are put together from, so that those which share parts can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Composition:
    """The modules that a task is put together from, by name.

    >>> Composition(inputs=("turn", "mirror"), rule="parity").inputs
    ('turn', 'mirror')

    Attributes:
        inputs: what its inputs have come through, one after the other.
        rule: what is asked about them.
    """

    inputs: tuple[str, ...]
    rule: str


def alone(task_id: int) -> Composition:
    """Return the composition of a task that has nothing in common with others."""
    return Composition((), f"task {task_id}")
