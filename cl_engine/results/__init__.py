"""Reading logs; needs no torch."""

from cl_engine.results.run import Run, open_run, open_runs
from cl_engine.results.zoo import Zoo, open_zoo

__all__ = ["Run", "Zoo", "open_run", "open_runs", "open_zoo"]
