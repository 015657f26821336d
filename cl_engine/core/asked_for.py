"""Files that somebody asked for: pages, tables and pictures, each written whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cl_engine.core.files import write
from cl_engine.errors import UsageError


def put(path: Path, content: bytes) -> None:
    """Write a file that somebody asked for whole, with the folders above it, or leave what was there.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(path.name + ".part").unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
