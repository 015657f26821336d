"""Scores of runs and logs, and statistics over them."""

from cl_engine.analysis.scores.run_scores import (
    Score,
    Summary,
    curve_area,
    interval,
    lca,
    learning_curve,
    learning_points,
    recomputed,
    reference,
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
