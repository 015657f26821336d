"""What benchmarks have measured, kept as JSON in two levels, so that rows can be added one by one and by several processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock


def read(file: Path) -> dict[str, Any]:
    """Return what has been measured; nothing where there is no file yet."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def put(file: Path, group: str, name: str, values: dict[str, Any], indent: int | None = None) -> None:
    """Write what was measured of one row of a group into the file, beside what others write."""
    lock = Path(f"{file}.lock")
    with FileLock(lock):
        found = read(file)
        found.setdefault(group, {})[name] = values
        file.write_text(json.dumps(found, indent=indent, sort_keys=True) + "\n")
    lock.unlink(missing_ok=True)
