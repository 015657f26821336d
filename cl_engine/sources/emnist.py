"""EMNIST, in torchvision's layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from cl_engine.data.source import Arrays
from cl_engine.data.torchvision import MnistLike, opened
from cl_engine.options import option

CLASSES = {"balanced": 47, "byclass": 62, "bymerge": 47, "digits": 10, "letters": 26, "mnist": 10}


class Emnist(MnistLike):
    """EMNIST: handwritten digits and letters of 28 × 28 pixels, in six divisions (Cohen, Afshar, Tapson & van Schaik 2017).

    Images lie on their side in the files, and stand upright here. All divisions are one download.

    >>> Emnist.Options(split="letters").split
    'letters'
    """

    name, dataset = "emnist", "EMNIST"

    split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = option(
        "balanced", "which division: digits, letters (both cases alike), or both together as published"
    )

    def load(self, root: Path) -> Arrays:
        self.classes, self.first_label = CLASSES[self.split], int(self.split == "letters")
        found = super().load(root)
        digits = self.split in ("digits", "mnist")
        return dataclasses.replace(found, digits=digits, about={"data": f"torchvision EMNIST, {self.split}"})

    def half(self, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().half(root, train)
        return x.swapaxes(2, 3), y

    def fetch(self, root: Path) -> None:
        opened(self.name, self.dataset, root, download=True, train=True, split=self.split)

    def prefix(self, train: bool) -> str:
        return f"emnist-{self.split}-{'train' if train else 'test'}"
