"""Imports of Avalanche when it is needed, without its warnings."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cl_engine.errors import UsageError

PACKAGE = "avalanche"
NOISE = (  # what Avalanche 0.6 says of itself, on every import and every run
    "no QP solver found",
    "No loggers specified",
    "Avalanche is transitioning to strategy constructors",
    "Call to deprecated",
    "__array_wrap__ must accept context",
    "'pin_memory' argument is set",
)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Avalanche's warnings about itself from the user inside the block; all others pass.

    Avalanche also calls ``warnings.simplefilter`` as it runs, over the head of the user's settings; those are put back.
    """
    with warnings.catch_warnings():
        for text in NOISE:
            warnings.filterwarnings("ignore", message=f".*{text}")
        before = warnings.simplefilter
        warnings.simplefilter = lambda *arguments, **more: None
        try:
            yield
        finally:
            warnings.simplefilter = before


def attribute(module: str, name: str) -> Any:
    """Return an attribute of a module of Avalanche, imported now if it was not.

    Raises:
        UsageError: if Avalanche is not installed or cannot be imported.
    """
    with quietly():
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise UsageError(f"Avalanche cannot be imported ({error}): pip install 'avalanche-lib>=0.6,<0.7'") from None
