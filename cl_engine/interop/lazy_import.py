"""Imports of Avalanche when it is needed, without its warnings."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cl_engine.errors import UsageError

PACKAGE = "avalanche"
INSTALL = "pip install 'avalanche-lib>=0.6,<0.7'"
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

    Raises:
        ModuleNotFoundError: with a sentence that says how to install it, if it is imported inside the block and is not there.
    """
    with warnings.catch_warnings():
        for text in NOISE:
            warnings.filterwarnings("ignore", message=f".*{text}")
        before = warnings.simplefilter
        warnings.simplefilter = lambda *arguments, **more: None
        try:
            yield
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != PACKAGE:
                raise
            said = f"Avalanche is not installed, and this needs it: {INSTALL}"
            raise ModuleNotFoundError(said, name=PACKAGE) from None
        finally:
            warnings.simplefilter = before


def attribute(module: str, name: str) -> Any:
    """Return an attribute of a module of Avalanche, imported now if it was not.

    Raises:
        UsageError: if Avalanche is not installed or cannot be imported.
    """
    try:
        with quietly():
            return getattr(importlib.import_module(module), name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == PACKAGE
        raise UsageError(str(error) if missing else f"Avalanche cannot be imported ({error}): {INSTALL}") from None
