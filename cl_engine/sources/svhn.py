"""SVHN, in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_engine.errors import UsageError
from cl_engine.source_stream import Arrays, Source


class Svhn(Source):
    """SVHN: 73,257 and 26,032 house numbers of 32 × 32 pixels, one digit in the middle (Netzer et al. 2011)."""

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
        from torchvision import datasets  # 1 s to import: only when used

        try:
            return datasets.SVHN(str(root), split=split, download=download)
        except (RuntimeError, OSError) as error:
            if download:
                raise UsageError(f"could not download SVHN to {root}: {error}") from None
            raise UsageError(
                f"the files of 'svhn' are not under {root} in torchvision's layout; "
                f"get them with: python run.py fetch svhn --data-root {root}"
            ) from None
