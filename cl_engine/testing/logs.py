"""Comparison of logs: all that two of them say, except for times."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cl_engine.events import Event, Progress
from cl_engine.loggers.recorder import WORKING

MADE_ANEW = (WORKING, ".lock")  # when a run goes on
TIMES = {"seconds", "created", "updated", "run_id"}


def facts(log: Path) -> dict[str, Any]:
    """Return all a log says but for times: attributes, and every dataset by its path."""
    found: dict[str, Any] = {}
    with h5py.File(log, "r") as file:
        found |= {f"@{name}": value for name, value in file.attrs.items() if name not in TIMES}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and name.rsplit("/", 1)[-1] not in TIMES | {"command"}:
                found[name] = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]

        file.visititems(visit)
    return found


def assert_same_facts(one: dict[str, Any], other: dict[str, Any], why: str = "") -> None:
    """Fail, naming the datasets, unless two logs say the same."""
    assert one.keys() == other.keys(), f"{why}logs hold different datasets: {sorted(one.keys() ^ other.keys())}"
    different = [name for name in one if not equal(one[name], other[name])]
    assert not different, f"{why}logs differ in {', '.join(different)}"


def equal(one: Any, other: Any) -> bool:
    """Return whether two datasets or tensors hold the same, what is not a number included."""
    if isinstance(one, np.ndarray) and one.dtype.kind == "f":
        return bool(one.shape == other.shape and np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))


class LeftOnDisk:
    """Copies of what a kill would leave of a run: a listener that takes one wherever the files differ from those before.

    >>> LeftOnDisk(Path("run"), Path("copies")).found
    {}

    Attributes:
        folder: the run's.
        found: the copies, each with the number of the event after which it was taken.
        heard: how many events there were.
    """

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.found = folder, dict[Path, int]()
        self._copies, self.heard = copies, 0
        self._known = {hashlib.sha256().hexdigest()}  # of no files, which every run begins with

    def __call__(self, event: Event) -> None:
        """Look at the files after an event."""
        if isinstance(event, Progress):
            return
        self.heard += 1
        told = hashlib.sha256()
        for file in sorted(self.folder.iterdir()):
            if file.name not in MADE_ANEW:
                told.update(file.name.encode() + file.read_bytes())
        if told.hexdigest() not in self._known:
            self._known.add(told.hexdigest())
            place = self._copies / f"killed after event {self.heard}"
            shutil.copytree(self.folder, place, ignore=shutil.ignore_patterns(*MADE_ANEW))
            self.found[place] = self.heard
