"""Global random states that other libraries draw from: set for a purpose, put aside, put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cl_engine.core import rng
from cl_engine.core.gpu import is_gpu


class Randomness:
    """The states of Python's, NumPy's and torch's global generators for one purpose, kept beside those in force.

    `swap` exchanges the two, so that code that is interrupted goes on drawing where it stopped, and nobody else's
    numbers move.

    >>> import random
    >>> own = Randomness(7)
    >>> own.swap(); first = random.random(); own.swap()
    >>> again = Randomness(7)
    >>> again.swap(); first == random.random(), again.swap()
    (True, None)
    """

    def __init__(self, number: int, device: torch.device | None = None) -> None:
        """Take the states that ``number`` seeds; those in force stay as they are."""
        self.device = device if is_gpu(device) else None
        with rng.kept(self.device):
            rng.reseed(number, self.device)
            self._aside = rng.states(self.device)

    def swap(self) -> None:
        """Put the states kept aside in force, and keep aside those that were."""
        now = rng.states(self.device)
        rng.restore(self._aside, self.device)
        self._aside = now


@contextmanager
def seeded(seed: int, step: int | None = None, *, device: torch.device | None = None) -> Iterator[None]:
    """Make the global generators draw, inside the block, what they draw when this seed learns this experience.

    A plain Avalanche script that builds its model in ``with seeded(seed):`` and trains experience ``step`` in
    ``with seeded(seed, step):`` gets the numbers that the same strategy gets in this engine. Afterwards the generators
    are as they were before.
    """
    number = rng.derive(seed, "init") if step is None else rng.derive(seed, "learn", step)
    with drawing(number, device):
        yield


@contextmanager
def drawing(number: int, device: torch.device | None = None) -> Iterator[None]:
    """Make the global generators draw what ``number`` seeds inside the block; afterwards they are as before."""
    with rng.kept(device):
        rng.reseed(number, device)
        yield
