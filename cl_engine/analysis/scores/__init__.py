"""Scores of runs and logs, and statistics over them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_engine.analysis.scores.references import reference
from cl_engine.analysis.scores.run_scores import (
    Score,
    Summary,
    curve_area,
    interval,
    lca,
    learning_curve,
    learning_points,
    recomputed,
    summarised,
)

__all__ = [
    "Score",
    "Summary",
    "curve_area",
    "interval",
    "lca",
    "learning_curve",
    "learning_points",
    "recomputed",
    "reference",
    "summarised",
]


def __getattr__(name: str) -> Any:
    """Return a name of `run_scores`, which is imported when it is asked for: what it needs takes a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cl_engine.analysis.scores import run_scores

    return getattr(run_scores, name)
