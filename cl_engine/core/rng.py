"""Random numbers derived from their purpose, never carried from one use to the next.

Every random number of a run is a function of (seed, purpose …): nothing has to be saved to resume, and the numbers of
one seed do not depend on which other seeds run beside it. Numbers are drawn on the CPU, so that a GPU run starts from
the same weights and sees the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


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
    """Set torch's global generators for this purpose and put them back afterwards.

    For code that takes no generator: the initialisation of modules, dropout.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(derive(seed, *purpose))
        yield
