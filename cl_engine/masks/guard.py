"""A guard that a frozen network has the same bits before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cl_engine.core.tree import leaves_with_path
from cl_engine.errors import RunFailed


def digest(tree: Mapping[str, Any]) -> str:
    """Return a hash of all tensors of a tree, bit for bit."""
    found = hashlib.blake2b(digest_size=16)
    for _, leaf in leaves_with_path(tree):
        found.update(leaf.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@contextmanager
def frozen(tree: Mapping[str, Any], what: str) -> Iterator[None]:
    """Raise `RunFailed` if a tensor of the tree has changed when the block ends."""
    before = digest(tree)
    yield
    if digest(tree) != before:
        raise RunFailed(f"{what} must not change, but learning changed it")
