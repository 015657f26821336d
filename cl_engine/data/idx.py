"""Arrays in the IDX format, as MNIST and its relatives are published in (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cl_engine.errors import UsageError

UNSIGNED_BYTES = 0x08


def read(path: Path, axes: int) -> np.ndarray:
    """Return the bytes of an IDX file as an array of ``axes`` axes.

    Raises:
        UsageError: if the file is not such an array, or is longer or shorter than it says itself.
    """
    content = np.fromfile(path, np.uint8)  # not from bytes: torch wants arrays that can be written to
    start = 4 + 4 * axes
    head = content[:4].tobytes()
    if len(content) < start or head != bytes((0, 0, UNSIGNED_BYTES, axes)):
        found = head.hex(" ") or "nothing"
        raise UsageError(f"{path} is damaged: it begins with {found}, not with 00 00 08 {axes:02x} as IDX files do")
    shape = tuple(int(size) for size in content[4:start].view(">u4"))
    if math.prod(shape) != len(content) - start:
        raise UsageError(
            f"{path} is damaged: it says that it holds {' × '.join(map(str, shape))} bytes, and there are {len(content) - start}"
        )
    return content[start:].reshape(shape)
