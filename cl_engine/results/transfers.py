"""Transfers between the tasks of a stream, as they were probed: how every validation row of a task was answered, each way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["full", "transfer", "untrained", "scratch", "copies"]


@dataclass(frozen=True)
class Transfer:
    """A way to answer a task, and its outcome on the task's validation rows, of one seed.

    ``kind``: a net of the task's own with all labels (``full``); a readout of the frozen nets of ``sources``
    (``transfer``; the task's own net among them is self-transfer), of as many independent nets of the task itself
    (``copies``), of an untrained net (``untrained``); a whole net trained on the labels of the readout (``scratch``).
    ``losses`` [rows] are what the target's loss says, ``errors`` [rows] what counts: 0 or 1 for classes, else the loss.
    ``score`` is the target's measure on the rows, ``labels`` the training rows with a label that were used.

    >>> Transfer(2, (0, 1), "transfer", 400, np.array([0.1, 2.0]), np.array([0.0, 1.0]), 0.5).order
    2
    """

    target: int
    sources: tuple[int, ...]
    kind: Kind
    labels: int
    losses: NDArray[np.float32]
    errors: NDArray[np.float32]
    score: float

    @property
    def order(self) -> int:
        """Number of nets that are read; 0: none."""
        return len(self.sources)


@dataclass(frozen=True)
class Transfers:
    """All transfers that a run probed, of one seed.

    ``names`` are those of the tasks, in the stream's order; ``labels`` the training rows with labels that each has;
    ``free`` the tasks whose labels need no human (rotation, jigsaw, the input itself).

    >>> probed = Transfer(0, (0,), "transfer", 400, np.zeros(2), np.zeros(2), 1.0)
    >>> Transfers(0, ("digit",), (6000,), frozenset(), (probed,)).to(0)[0].kind
    'transfer'
    """

    seed: int
    names: tuple[str, ...]
    labels: tuple[int, ...]
    free: frozenset[int]
    probed: tuple[Transfer, ...]

    def to(self, target: int) -> tuple[Transfer, ...]:
        """Return the ways to one task, in the order they were probed."""
        return tuple(transfer for transfer in self.probed if transfer.target == target)
