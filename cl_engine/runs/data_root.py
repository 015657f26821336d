"""The data root, and the sources under it, checked before anything is learned from them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cl_engine.core.files import NO_FOLDER, REFUSED, user_cache
from cl_engine.data.digest import Digest, difference, digest
from cl_engine.data.source import Arrays
from cl_engine.errors import RunFailed, UsageError
from cl_engine.runs import plugins


def default_data_root() -> Path:
    """Return where data are looked for: ``CL_DATA_ROOT``, or a folder in the user's cache."""
    found = os.environ.get("CL_DATA_ROOT")
    return Path(found) if found else user_cache() / "data"


@dataclass(frozen=True)
class DataRoot:
    """The sources of this program, their files under a folder.

    >>> sources = DataRoot(Path("nowhere"))
    >>> sources.load("digits").classes, list(sources.digests)  # shipped by a package: needs no files
    (10, ['digits'])

    Attributes:
        root: the folder that data files are under.
        digests: what tells the data of the sources read so far from others, by name.
    """

    root: Path
    digests: dict[str, Digest] = field(default_factory=dict, compare=False)

    def load(self, name: str) -> Arrays:
        """Return the arrays of a source.

        Raises:
            UsageError: if they are not there, may not be read, are damaged, or do not fit each other.
            RunFailed: if they are not what they were when they were read before.
        """
        try:
            source = plugins.source(name)
            found = source.load(self.root)
        except OSError as error:
            if error.errno not in REFUSED | NO_FOLDER:
                raise
            where = error.filename or self.root
            raise UsageError(f"source '{name}': {where} cannot be read: {error.strerror}") from None
        fault = _fault(found)
        if fault:
            raise UsageError(f"source '{name}': {fault}")
        # labels that are generated follow from the options, as the inputs do
        labels = {name: (own.train, own.test) for name, own in found.labels.items()} if source.needs_files else {}
        told = digest(found.train_x, found.train_y, found.test_x, found.test_y, labels)
        changed = difference({f"source '{name}'": self.digests.setdefault(name, told)}, {f"source '{name}'": told})
        if changed:
            raise RunFailed(f"{changed}: the data under {self.root} have changed while they were in use")
        return found

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
