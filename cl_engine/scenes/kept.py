"""Pictures and what is true of them, rendered once and kept on disk under a hash of all that they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cl_engine.core import files

Rendered = dict[str, np.ndarray]


def kept(root: Path | None, key: Mapping[str, Any], render: Callable[[], Rendered]) -> Rendered:
    """Return arrays by name, mapped from the folder of this ``key`` under ``root``; rendered first if they are not there.

    Where there is no root, or nothing can be written there, they are rendered and held in memory.
    """
    if root is None:
        return render()
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / "scenes" / digest
    found = _read(folder)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            found = _read(folder)  # another process may have rendered them meanwhile
            if found is None:
                _write(folder, render())
                found = _read(folder)
    except OSError:
        found = None
    return render() if found is None else found


def _read(folder: Path) -> Rendered | None:
    """Return the arrays of a folder; None if there are none, or one of them is damaged."""
    try:
        names = json.loads((folder / "whole.json").read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    except (OSError, ValueError, EOFError):
        return None
    return arrays if all(list(arrays[name].shape) == names[name] for name in names) else None


def _write(folder: Path, arrays: Rendered) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
        (part / "whole.json").write_text(json.dumps({name: list(array.shape) for name, array in arrays.items()}))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        files.sync_folder(folder.parent)
    except OSError:
        with contextlib.suppress(OSError):
            shutil.rmtree(part)
        raise
