"""Comparison of logs: all that two of them say, except for times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

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
    different = [name for name in one if not _equal(one[name], other[name])]
    assert not different, f"{why}logs differ in {', '.join(different)}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and one.dtype.kind == "f":
        return bool(one.shape == other.shape and np.array_equal(one, other, equal_nan=True))
    return bool(np.array_equal(one, other))
