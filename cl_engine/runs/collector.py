"""Python's collector of cycles, kept from looking through all that is imported again and again."""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
OBJECTS = 100_000  # made between two collections


def seldom() -> None:
    """Let it look seldom, while modules are imported that are there to stay.

    Torch's bring 350,000 objects, and going through them takes half a second of a command.
    """
    gc.set_threshold(OBJECTS)


def as_usual() -> None:
    """Let it look as often as Python does, so that tensors in cycles are given back soon."""
    gc.set_threshold(*USUAL)
