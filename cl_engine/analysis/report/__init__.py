"""The report: one self-contained page about all runs below a folder."""

from cl_engine.analysis.report.page import write_report

__all__ = ["write_report"]
