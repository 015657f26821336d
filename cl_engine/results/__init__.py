"""Reading logs; needs no torch."""

from cl_engine.results.run import Run, open_run, open_runs

__all__ = ["Run", "open_run", "open_runs"]
