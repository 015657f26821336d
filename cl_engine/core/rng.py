"""Random numbers derived from their purpose, never carried from one use to the next.

Every random number of a run is a function of (seed, purpose …): nothing has to be saved to resume, and the numbers of
one seed do not depend on which other seeds run beside it. Numbers are drawn on the CPU, so that a GPU run starts from
the same weights and sees the same batches.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from cl_engine.core.gpu import is_gpu

States = tuple[Any, ...]

# The global generators are one for all threads: whoever draws from them for a purpose has them alone meanwhile.
_GENERATORS = threading.RLock()
if hasattr(os, "register_at_fork"):  # a process must not begin with a lock that a thread it does not have holds
    os.register_at_fork(
        before=_GENERATORS.acquire, after_in_parent=_GENERATORS.release, after_in_child=_GENERATORS.release
    )


def derive(seed: int, *purpose: int | str) -> int:
    """Return a 63-bit number that depends on the seed and on every part of the purpose."""
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def arrays(seed: int, *purpose: int | str) -> np.random.Generator:
    """Return a NumPy generator for this purpose."""
    return np.random.default_rng(derive(seed, *purpose))


def tensors(seed: int, *purpose: int | str) -> torch.Generator:
    """Return a torch generator, on the CPU, for this purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def ambient(seed: int, *purpose: int | str, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python for this purpose, and put them back afterwards.

    For code that takes no generator: the initialisation of modules, dropout. Other threads that want them wait.
    """
    with kept(device):
        reseed(derive(seed, *purpose), device)
        yield


@contextmanager
def kept(device: torch.device | None = None) -> Iterator[None]:
    """Put the global generators back afterwards; other threads that want them for a purpose wait."""
    with _GENERATORS:
        before = states(device)
        try:
            yield
        finally:
            restore(before, device)


def reseed(number: int, device: torch.device | None = None) -> None:
    """Seed the global generators of Python, NumPy and torch, that of a GPU too if ``device`` is one."""
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002  the generator that modules draw from
    torch.default_generator.manual_seed(number)
    if is_gpu(device):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


def states(device: torch.device | None = None) -> States:
    """Return the states of the global generators."""
    cuda = torch.cuda.get_rng_state(device) if is_gpu(device) else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda  # noqa: NPY002


def restore(found: States, device: torch.device | None = None) -> None:
    """Put the global generators into the states that `states` returned."""
    python, numpy, cpu, cuda = found
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    if cuda is not None and device is not None:
        torch.cuda.set_rng_state(cuda, device)


def drawn(before: States, after: States) -> bool:
    """Return whether numbers were drawn from any global generator between these states."""
    same_numpy = all(np.array_equal(one, other) for one, other in zip(before[1], after[1], strict=True))
    same_torch = all(one is None or torch.equal(one, other) for one, other in zip(before[2:], after[2:], strict=True))
    return not (before[0] == after[0] and same_numpy and same_torch)
