"""SVHN, in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_engine.data.source import Arrays, Source
from cl_engine.data.torchvision import opened


class Svhn(Source):
    """SVHN: 73,257 and 26,032 house numbers of 32 × 32 pixels, one digit in the middle (Netzer et al. 2011).

    >>> Svhn.needs_files
    True
    """

    needs_files: ClassVar[bool] = True

    def load(self, root: Path) -> Arrays:
        train, test = (self._open(root, split) for split in ("train", "test"))
        mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
        return Arrays(
            *(np.ascontiguousarray(train.data), np.asarray(train.labels, dtype=np.int64)),
            *(np.ascontiguousarray(test.data), np.asarray(test.labels, dtype=np.int64)),
            10,
            tuple(255 * value for value in mean),
            tuple(255 * value for value in std),
            about={"data": "torchvision SVHN"},
        )

    def fetch(self, root: Path) -> None:
        for split in ("train", "test"):
            self._open(root, split, download=True)

    def _open(self, root: Path, split: str, download: bool = False) -> Any:
        return opened("svhn", "SVHN", root, download, split=split)
