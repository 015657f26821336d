"""Optional packages that a format needs."""

from __future__ import annotations

import importlib
from typing import Any

from cl_engine.errors import UsageError


def needed(module: str, extra: str = "export") -> Any:
    """Return a module of another package, which one of the extras installs.

    Raises:
        UsageError: if it cannot be imported, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UsageError(f"this needs {package}: install it with  pip install -e '.[{extra}]'  ({error})") from None
