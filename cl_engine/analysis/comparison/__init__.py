"""Comparisons of strategies over many runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_engine.analysis.comparison.compare import Comparison, compared, comparisons
    from cl_engine.analysis.comparison.seeds import ALPHA

__all__ = ["ALPHA", "Comparison", "compared", "comparisons"]


def __getattr__(name: str) -> Any:
    """Return a name of `compare`, which is imported when it is asked for: what it needs takes a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cl_engine.analysis.comparison import compare

    return getattr(compare, name)
