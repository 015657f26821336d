"""Seeds that a run is asked for: how many, or which."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

from cl_engine.errors import UsageError

MOST_SEEDS = 10_000


def seeds_of(asked: object) -> tuple[int, ...]:
    """Return the seeds that a number of them (0, 1, … up to it), or a list of them, stands for.

    >>> seeds_of(3), seeds_of([7])
    ((0, 1, 2), (7,))

    Raises:
        UsageError: for anything else.
    """
    if isinstance(asked, Integral) and _whole(asked):
        if not 1 <= int(asked) <= MOST_SEEDS:
            raise UsageError(f"seeds: there may be 1 to {MOST_SEEDS}, found {asked}")
        return tuple(range(int(asked)))
    listed = list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str | bytes) else None
    if not listed or not all(map(_whole, listed)) or len({*listed}) != len(listed) or not _bounded(listed):
        raise UsageError(
            f"seeds must be different whole numbers from 0 to 2**63 − 1, or how many there are to be; found {asked!r}"
        )
    return tuple(map(int, listed))


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _bounded(numbers: list[int]) -> bool:
    return min(numbers) >= 0 and max(numbers) < 2**63
