"""cl-engine: an event-driven engine for continual-learning experiments."""

from importlib.metadata import PackageNotFoundError, version

from cl_engine.core.moved import find_moved_modules

try:
    __version__ = version("cl-engine")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"

find_moved_modules()
