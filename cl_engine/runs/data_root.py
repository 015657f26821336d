"""The data root, and the sources under it, checked before anything is learned from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cl_engine.data.source import Arrays
from cl_engine.errors import UsageError
from cl_engine.runs import plugins


def default_data_root() -> Path:
    """Return where data are looked for: ``CL_DATA_ROOT``, or a folder in the user's cache."""
    found = os.environ.get("CL_DATA_ROOT")
    return Path(found) if found else Path.home() / ".cache" / "cl-engine" / "data"


@dataclass(frozen=True)
class DataRoot:
    """The sources of this program, their files under a folder.

    >>> DataRoot(Path("nowhere")).load("digits").classes  # shipped by a package: needs no files
    10
    """

    root: Path

    def load(self, name: str) -> Arrays:
        """Return the arrays of a source.

        Raises:
            UsageError: if they are not there, are damaged, or do not fit each other.
        """
        found = plugins.source(name).load(self.root)
        fault = _fault(found)
        if fault:
            raise UsageError(f"source '{name}': {fault}")
        return found

    def classes_of(self, name: str) -> int | None:
        """Return the number of classes of a source if it can be told without reading the data."""
        return plugins.source(name).classes_under(self.root)

    def plugin(self, kind: Literal["targets", "labels"], name: str) -> type[Any]:
        """Return the class of a target or label function."""
        return plugins.load(kind, name)


def _fault(found: Arrays) -> str:
    """Return what is wrong with arrays; empty: nothing."""
    for half, x, y in (("training", found.train_x, found.train_y), ("test", found.test_x, found.test_y)):
        if x.dtype not in (np.uint8, np.float32, np.int64) or x.ndim < 2 or not all(x.shape[1:]):
            allowed = "uint8, float32 and tokens (int64) of shape [rows, …] are allowed"
            return f"its {half} inputs are {x.dtype} of shape {x.shape}; {allowed}"
        if (x.dtype == np.int64) != (found.vocabulary is not None):
            return f"its {half} inputs are {x.dtype}, and its vocabulary is {found.vocabulary}: tokens have one, others none"
        if found.vocabulary is not None and (x.min(initial=0) < 0 or x.max(initial=0) >= found.vocabulary):
            return f"one of its {half} tokens is not within its vocabulary, 0 to {found.vocabulary - 1}"
        if x.shape[1:] != found.train_x.shape[1:]:
            return f"its training inputs have shape {found.train_x.shape[1:]}, its test inputs {x.shape[1:]}"
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or len(y) != len(x):
            return f"it has {len(x)} {half} inputs and labels of type {y.dtype} and shape {y.shape}"
        if y.min(initial=0) < 0 or y.max(initial=-1) >= found.classes:
            odd = y.min() if y.min() < 0 else y.max()
            return f"one of its {half} labels is {odd}; allowed are 0 to {found.classes - 1}"
        missing = np.setdiff1d(np.arange(found.classes), y)
        if len(missing):
            return f"class {missing[0]} of its {found.classes} has no {half} rows"
        if x.dtype == np.float32 and not np.isfinite(x).all():
            return f"there are {half} inputs that are not finite numbers"
    return ""
