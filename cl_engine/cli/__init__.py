"""The command line."""

from cl_engine.cli.commands import main

__all__ = ["main"]
