"""The report: one self-contained page about all runs below a folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_engine.analysis.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """Return a name of `page`, which is imported when it is asked for: what it needs takes a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cl_engine.analysis.report import page

    return getattr(page, name)
