"""The loop over the agenda."""

from cl_engine.engine.loop import simulate

__all__ = ["simulate"]
