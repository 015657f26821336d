"""Avalanche and this engine together: its benchmarks here, our streams and strategies there, its runs in our log."""

from cl_engine.interop.as_avalanche import as_avalanche
from cl_engine.interop.benchmark_stream import from_avalanche
from cl_engine.interop.hdf5_logger import Hdf5Logger
from cl_engine.interop.randomness import seeded
from cl_engine.interop.tensor_benchmark import to_avalanche

__all__ = ["Hdf5Logger", "as_avalanche", "from_avalanche", "seeded", "to_avalanche"]
