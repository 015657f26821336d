"""Names of plug-ins, found without importing any of them, and without torch: completion in a shell asks for them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Literal

LOG = logging.getLogger("cl_engine")
Kind = Literal["strategies", "streams", "sources", "nets", "targets", "labels", "upkeep", "metrics"]
FOLDERS: dict[str, str] = {"metrics": "answer_metrics"}  # where the files of a kind are, if not in a room of its name


def names(kind: Kind) -> list[str]:
    """Return the names of all plug-ins of a kind, without importing any of them."""
    return sorted({*files(kind), *entries(kind)})


def own(kind: Kind) -> list[str]:
    """Return the names of the plug-ins that come with the engine."""
    return sorted(files(kind))


def files(kind: Kind) -> dict[str, Path]:
    """Return the files of the plug-ins that come with the engine, by name."""
    folder = Path(__file__).parents[1] / FOLDERS.get(kind, kind)
    return _files_in(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=16)  # a run asks thirty times
def _files_in(folder: Path, changed: int) -> dict[str, Path]:
    """Return the modules in a folder that was last ``changed`` then: that a file came or went is no time of a file's own."""
    return {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith(("_", "."))}


def entries(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Return what other packages bring, by name: more than one where two bring the same."""
    return _entries_on(kind, tuple(sys.path))


@lru_cache(maxsize=16)  # looking through all packages takes ten milliseconds
def _entries_on(kind: Kind, path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for entry in _entry_points(f"cl_engine.{kind}"):
        found.setdefault(entry.name, []).append(entry)
    return found


def _entry_points(group: str) -> Iterable[EntryPoint]:
    """Return all entry points of a group; those of a package whose list of them is not as it is written are left out."""
    try:
        return entry_points(group=group)
    except Exception:  # one bad list, and there would be none at all
        found: list[EntryPoint] = []
        for package in distributions():
            try:
                found += package.entry_points.select(group=group)
            except Exception as error:
                LOG.warning("the entry points of package '%s' cannot be read: %s", package.name, error)
        return found
