"""Digests of data: a few words that a log can keep, and that differ where the data do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Digest = dict[str, str | int]  # such as {"rows": "8 + 4", "checksum": "…"}


def checksum(arrays: Iterable[np.ndarray]) -> str:
    """Return 32 hexadecimal digits (BLAKE2b) that stand for type, shape and content of arrays, in their order.

    >>> checksum([np.zeros(2)]) == checksum([np.zeros(2)]) != checksum([np.zeros(3)])
    True
    """
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def digest(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    labellings: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> Digest:
    """Return the digest of labelled rows, in training and test rows; 0.2 s of computing for arrays of CIFAR's size.

    ``labellings`` are further labels of the same rows by name.
    """
    more = {f"labels '{name}'": checksum(arrays) for name, arrays in (labellings or {}).items()}
    return {
        "training rows": len(train_y),
        "test rows": len(test_y),
        "classes": len(np.union1d(train_y, test_y)),
        "inputs": f"{train_x.dtype} {tuple(train_x.shape[1:])}",
        "checksum": checksum([train_x, train_y, test_x, test_y]),
        **more,
    }


def difference(then: Mapping[str, Mapping[str, object]], now: Mapping[str, Mapping[str, object]]) -> str:
    """Return in words how digests by name differ, as far as both have them; empty: they do not."""
    for name, before in then.items():
        after = now.get(name, before)
        told = [
            f"{key} {before[key]} then, {after[key]} now"
            for key in before
            if before[key] != after.get(key, before[key])
        ]
        if told:
            return f"{name}: {'; '.join(told)}"
    return ""
