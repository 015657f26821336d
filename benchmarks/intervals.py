"""Means with their intervals, as tables of benchmarks print them."""

from __future__ import annotations

import numpy as np

from cl_engine.analysis.scores.run_scores import interval


def said(values: np.ndarray) -> str:
    """Return the mean over seeds with half a 95 % t interval."""
    return f"{values.mean():.4f} ± {float(interval(values)):.4f}"
