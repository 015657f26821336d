"""What follows from one run, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from cl_engine.results.run import Run

T = TypeVar("T")


def kept_with_run(function: Callable[[Run], T]) -> Callable[[Run], T]:
    """Let a function of a run alone be computed once for each run, which keeps what was found: nobody may change it.

    >>> @kept_with_run
    ... def words(run):
    ...     return run.path.split()
    >>> from types import SimpleNamespace
    >>> run = SimpleNamespace(path="a b")
    >>> words(run) is words(run)
    True
    """

    @wraps(function)
    def found(run: Run) -> T:
        known: dict[Any, Any] = vars(run).setdefault("kept", {})
        if function not in known:
            known[function] = function(run)
        kept: T = known[function]
        return kept

    return found
