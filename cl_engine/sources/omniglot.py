"""Omniglot, in torchvision's layout."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from cl_engine.data import image_files
from cl_engine.data.source import Arrays, Source
from cl_engine.data.torchvision import missing, opened, scale_of
from cl_engine.errors import UsageError
from cl_engine.options import option

HALVES = ("images_background", "images_evaluation")


class Omniglot(Source):
    """Omniglot: characters of fifty alphabets, each drawn by twenty people (Lake, Salakhutdinov & Tenenbaum 2015).

    A class is a character; the last fifth of its drawings are test rows. Ink is bright here, as in MNIST, and dark in the files.

    >>> Omniglot.Options(alphabet=3).side
    28
    """

    needs_files: ClassVar[bool] = True

    alphabet: int | None = option(
        None, "which alphabet, by name: first those of the background set from 0, then the others; left out: all", ge=0
    )
    side: int = option(28, "pixels a side that drawings are brought to (105 in the files)", ge=1, le=105)

    def load(self, root: Path) -> Arrays:
        folders = [root / "omniglot-py" / half for half in HALVES]
        if not all(folder.is_dir() for folder in folders):
            raise missing("omniglot", root)
        alphabets = [alphabet for folder in folders for alphabet in _below(folder)]
        if self.alphabet is not None:
            if self.alphabet >= len(alphabets):
                raise UsageError(
                    f"stream.source: omniglot?alphabet={self.alphabet} is none of the {len(alphabets)} alphabets under {root}, "
                    f"which are 0 to {len(alphabets) - 1}"
                )
            alphabets = [alphabets[self.alphabet]]
        rows: dict[str, list[tuple[np.ndarray, int]]] = {"train": [], "test": []}
        characters = [character for alphabet in alphabets for character in _below(alphabet)]
        for label, character in enumerate(characters):
            drawings = [self._read(path) for path in sorted(character.glob("*.png"))]
            if len(drawings) < 2:
                raise UsageError(f"the files of 'omniglot' are damaged: {character} has {len(drawings)} drawings")
            test = max(1, len(drawings) // 5)
            rows["train"] += [(image, label) for image in drawings[:-test]]
            rows["test"] += [(image, label) for image in drawings[-test:]]
        (train_x, train_y), (test_x, test_y) = (
            (np.stack([image for image, _ in part])[:, None], np.array([label for _, label in part], dtype=np.int64))
            for part in rows.values()
        )
        about = {"data": "torchvision Omniglot" + (f", {alphabets[0].name}" if self.alphabet is not None else "")}
        return Arrays(train_x, train_y, test_x, test_y, len(characters), *scale_of(train_x), about=about)  # type: ignore[arg-type]

    def fetch(self, root: Path) -> None:
        for background in (True, False):
            opened("omniglot", "Omniglot", root, download=True, background=background)

    def _read(self, path: Path) -> np.ndarray:
        from PIL import Image

        small = image_files.read(path).convert("L").resize((self.side, self.side), Image.Resampling.BILINEAR)
        return 255 - np.asarray(small)


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
