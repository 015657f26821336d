"""Candidate paths that are worth trying: the task-driven prior of MNTDP."""

from __future__ import annotations

from typing import Literal

Prior = Literal["forward", "backward", "full"]
Reuse = tuple[bool, ...]


def candidates(prior: Prior, depths: int, *, same_outputs: bool = True) -> list[Reuse]:
    """Return which depths reuse the source's modules, for each path to be tried, the most reusing first.

    ``forward``: the first r modules are old and the rest new, r = 0 … depths (Veniat et al. 2021, §4). ``backward``: the
    first ones are new and the last old, too, for inputs that changed. ``full``: new ones between old ones as well.
    The head can only be reused where its outputs mean the same.
    """
    found = {_path(depths, first, depths) for first in range(depths + 1)}
    if prior != "forward":
        found |= {_path(depths, 0, last) for last in range(depths + 1)}
    if prior == "full":
        found |= {_path(depths, first, last) for first in range(depths + 1) for last in range(first, depths + 1)}
    usable = [path for path in found if same_outputs or not path[-1]]
    return sorted(usable, key=lambda path: (-sum(path), [not old for old in path]))


def _path(depths: int, first: int, last: int) -> Reuse:
    """Return old modules up to ``first``, new ones up to ``last``, and old ones after it."""
    return tuple(depth < first or depth >= last for depth in range(depths))
