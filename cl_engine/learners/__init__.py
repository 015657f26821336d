"""What runs have learned, taken out: answers for any rows, modules, weights, files."""

from cl_engine.learners.learner import Learner, load

__all__ = ["Learner", "load"]
