"""Data sets in torchvision's file layout: read from the data root, downloaded only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_engine.errors import UsageError
from cl_engine.source_stream import Arrays, Source


class TorchvisionSource(Source):
    """A classification set of ``torchvision.datasets`` with a ``train`` flag, its checksums checked by torchvision.

    A subclass names the class, the number of classes and the published channel means and deviations (of 0 … 1).
    """

    needs_files: ClassVar[bool] = True
    dataset: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str

    def load(self, root: Path) -> Arrays:
        train, test = (self._open(root, train) for train in (True, False))
        (train_x, train_y), (test_x, test_y) = _arrays(train), _arrays(test)
        return Arrays(
            train_x,
            train_y,
            test_x,
            test_y,
            self.classes,
            tuple(255 * value for value in self.mean),
            tuple(255 * value for value in self.std),
            about={"data": f"torchvision {self.dataset}"},
        )

    def fetch(self, root: Path) -> None:
        for train in (True, False):
            self._open(root, train, download=True)

    def _open(self, root: Path, train: bool, download: bool = False) -> Any:
        return opened(self.name, self.dataset, root, download, train=train)


def opened(name: str, dataset: str, root: Path, download: bool, **options: Any) -> Any:
    """Return a set of ``torchvision.datasets`` that the source ``name`` reads, downloaded if so wished.

    Raises:
        UsageError: if its files are not under ``root`` (with the command that gets them), or cannot be downloaded.
    """
    from torchvision import datasets  # 1 s to import: only when used

    try:
        return getattr(datasets, dataset)(root, download=download, **options)
    except (RuntimeError, OSError) as error:
        if download:
            raise UsageError(f"could not download {dataset} to {root}: {error}") from None
        raise UsageError(
            f"the files of '{name}' are not under {root} in torchvision's layout; "
            f"get them with: python run.py fetch {name} --data-root {root}"
        ) from None


def _arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    x = np.asarray(dataset.data)
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x, dtype=np.uint8), np.asarray(dataset.targets, dtype=np.int64)
