"""Comparisons of strategies over many runs."""

from cl_engine.analysis.comparison.compare import ALPHA, Comparison, compared

__all__ = ["ALPHA", "Comparison", "compared"]
