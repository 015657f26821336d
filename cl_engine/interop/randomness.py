"""Global random states that other libraries draw from: set for a purpose, put aside, put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from cl_engine.core import rng


class Randomness:
    """The states of Python's, NumPy's and torch's global generators for one purpose, kept beside those in force.

    `swap` exchanges the two, so that code that is interrupted goes on drawing where it stopped, and nobody else's
    numbers move.

    >>> own = Randomness(7)
    >>> own.swap(); first = random.random(); own.swap()
    >>> again = Randomness(7)
    >>> again.swap(); first == random.random(), again.swap()
    (True, None)
    """

    def __init__(self, number: int, device: torch.device | None = None) -> None:
        """Take the states that ``number`` seeds; those in force stay as they are."""
        self.device = device if device is not None and device.type == "cuda" else None
        before = self._states()
        random.seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002  the generator that guests draw from
        torch.default_generator.manual_seed(number)
        if self.device is not None:
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(number)
        self._aside = self._states()
        self._put(before)

    def swap(self) -> None:
        """Put the states kept aside in force, and keep aside those that were."""
        now = self._states()
        self._put(self._aside)
        self._aside = now

    def _states(self) -> tuple[Any, ...]:
        cuda = None if self.device is None else torch.cuda.get_rng_state(self.device)
        return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda  # noqa: NPY002

    def _put(self, states: tuple[Any, ...]) -> None:
        python, numpy, cpu, cuda = states
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None and self.device is not None:
            torch.cuda.set_rng_state(cuda, self.device)


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
    own = Randomness(number, device)
    own.swap()
    try:
        yield
    finally:
        own.swap()
