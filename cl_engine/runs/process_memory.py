"""The memory of this process: what is freed is kept for the next step, and garbage is collected seldom during imports."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEPT = {TRIM_THRESHOLD: 1 << 30, MMAP_THRESHOLD: 1 << 25}  # bytes; 32 MiB is the most that glibc takes for the second
EVERY = 3.0  # seconds between two times that what lies idle is given back all the same
GARBAGE_THRESHOLD = gc.get_threshold()
WHILE_IMPORTING = 100_000  # objects made between two collections of garbage
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@contextmanager
def kept() -> Iterator[Callable[[], None]]:
    """Let glibc keep freed memory, up to 1 GiB at the heap's end, for the tensors of the next step; give it back in the end.

    Left alone, glibc returns larger blocks to the system as soon as they are freed, and the next step pays for every page
    anew: 5,000 of them in a step of a ResNet-18, a seventh of its time (``benchmarks/allocator.py``). Whoever has set
    glibc's own variables has chosen; other allocators and systems have no such switch, and there nothing is done. What is
    set stays set for the process.

    Yields what is to be called now and then: it gives back what lies idle between blocks in use, every three seconds, as the
    state of a long run grows by leaving smaller arrays behind.
    """
    libc = None if any(name in os.environ for name in CHOSEN) else _glibc()
    if libc is None:
        yield lambda: None
        return
    for name, size in KEPT.items():
        libc.mallopt(name, size)
    last = time.monotonic()

    def give_back() -> None:
        nonlocal last
        if time.monotonic() - last > EVERY:
            libc.malloc_trim(0)
            last = time.monotonic()

    try:
        yield give_back
    finally:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def collect_garbage_seldom() -> None:
    """Let Python collect garbage seldom, while modules are imported that are there to stay.

    Torch's bring 350,000 objects, and going through them takes half a second of a command.
    """
    gc.set_threshold(WHILE_IMPORTING)


def collect_garbage_as_usual() -> None:
    """Let Python collect garbage as often as it does by itself, so that tensors in cycles are given back soon."""
    gc.set_threshold(*GARBAGE_THRESHOLD)
