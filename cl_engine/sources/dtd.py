"""The Describable Textures Dataset, in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_engine.data import image_files
from cl_engine.data.source import Arrays, Source
from cl_engine.data.torchvision import opened

SIDE = 32


class Dtd(Source):
    """DTD: 47 kinds of texture, 80 and 40 photographs of each (Cimpoi et al. 2014), brought to 32 × 32 as in CTrL.

    Of the first of the ten published divisions; its training and validation parts are the training rows here.

    >>> Dtd.needs_files
    True
    """

    needs_files: ClassVar[bool] = True

    def load(self, root: Path) -> Arrays:
        train_x, train_y = _arrays([self._open(root, split) for split in ("train", "val")])
        test_x, test_y = _arrays([self._open(root, "test")])
        channels = (0, 2, 3)
        mean, std = (tuple(float(v) for v in f(train_x, axis=channels)) for f in (np.mean, np.std))
        return Arrays(train_x, train_y, test_x, test_y, 47, mean, std, about={"data": "torchvision DTD, partition 1"})

    def fetch(self, root: Path) -> None:
        self._open(root, "train", download=True)

    def _open(self, root: Path, split: str, download: bool = False) -> Any:
        return opened("dtd", "DTD", root, download, split=split, loader=image_files.read)


def _arrays(parts: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    found = [(image, label) for part in parts for image, label in part]
    small = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image, _ in found]
    x = np.stack(small).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x), np.array([label for _, label in found], dtype=np.int64)
