"""Files that are replaced as a whole: a reader, or a crash, finds either the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from cl_engine.errors import UsageError


def replace(part: Path, path: Path) -> None:
    """Put ``part`` in the place of ``path`` so that a reader, or a crash, finds either the old file or the new one."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write(path: Path, content: bytes) -> None:
    """Write a file whole: it is complete and on the disk before it takes the place of the one that was there."""
    if not path.name or path.is_dir():
        raise UsageError(f"'{path}' is a folder, where a file is to be written")
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    replace(part, path)


def refuse_links(*folders: Path) -> None:
    """Refuse folders that hold symbolic links: what is written there would be written elsewhere.

    Raises:
        UsageError: naming the first link.
    """
    for folder in folders:
        for entry in folder.iterdir():
            if entry.is_symlink():
                raise UsageError(
                    f"{entry} is a link to {entry.readlink()}; what is written into a folder of runs must "
                    "stay there: remove it"
                )
