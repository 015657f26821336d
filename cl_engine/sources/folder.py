"""Images in folders, one for each class: a user's own data, or the fine-grained sets of the ImageNet protocols."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np

from cl_engine.data import image_files
from cl_engine.data.source import Arrays, Source
from cl_engine.errors import UsageError
from cl_engine.options import option

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
SHORT_SIDE, SIDE = 256, 224
OF_DESKTOPS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")  # beside hidden ones
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Folder(Source):
    """Folder: images under the data root, as ``folder/NAME``: NAME/train/CLASS/*.jpg and NAME/test/CLASS/*.jpg.

    Images that all have one size are taken as they are; otherwise the shorter side becomes 256 pixels and the central
    224 × 224 are taken, as for nets trained on ImageNet, whose means and deviations scale them. ``val`` serves where
    there is no ``test``. What desktops and notebooks leave in folders (hidden files and folders, ``__MACOSX``) is passed
    over.

    >>> Folder.needs_files
    True
    """

    needs_files: ClassVar[bool] = True
    takes_path: ClassVar[bool] = True

    upright: bool = option(False, "photographs turned as their EXIF orientation says; false: as stored")

    def load(self, root: Path) -> Arrays:
        labels = self._classes(root)
        train, test = (self._files(root, half, labels) for half in ("train", "test"))
        same = len({image_files.size(file, upright=self.upright) for file, _ in (*train, *test)}) == 1
        (train_x, train_y), (test_x, test_y) = (self._read(found, same) for found in (train, test))
        mean, std = (tuple(255 * value for value in values) for values in IMAGENET)
        return Arrays(train_x, train_y, test_x, test_y, len(labels), mean, std, about={"data": f"folder {self.path}"})

    def _half(self, root: Path, half: str) -> Path:
        folder = root / self.path / half
        return folder if half == "train" or folder.is_dir() else root / self.path / "val"

    def _classes(self, root: Path) -> list[str]:
        folder = self._half(root, "train")
        if ".." in Path(self.path).parts or Path(self.path).is_absolute():
            raise UsageError(f"source 'folder/{self.path}': NAME is a folder under the data root {root}, without '..'")
        if not self.path or not folder.is_dir():
            raise UsageError(
                f"source 'folder/{self.path}': there is no folder {folder}; expected are NAME/train/CLASS/*.jpg and "
                f"NAME/test/CLASS/*.jpg under the data root {root}, named as source = 'folder/NAME'"
            )
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _is_data(entry))

    def _files(self, root: Path, half: str, labels: list[str]) -> list[tuple[Path, int]]:
        folder = self._half(root, half)
        found = [
            (file, label)
            for label, name in enumerate(labels)
            for file in sorted((folder / name).glob("*"))
            if file.suffix.lower() in SUFFIXES and _is_data(file)
        ]
        missing = set(range(len(labels))) - {label for _, label in found}
        if missing:
            raise UsageError(f"source 'folder/{self.path}': {folder / labels[min(missing)]} holds no images")
        return found

    def _read(self, files: list[tuple[Path, int]], same: bool) -> tuple[np.ndarray, np.ndarray]:
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter
            images = list(pool.map(lambda entry: self._image(entry[0], same), files))
        return np.stack(images).transpose(0, 3, 1, 2).copy(), np.array([label for _, label in files], dtype=np.int64)

    def _image(self, file: Path, same: bool) -> np.ndarray:
        from PIL import Image

        image = image_files.read(file, upright=self.upright)
        if not same:
            scale = SHORT_SIDE / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            image = image.crop((left, top, left + SIDE, top + SIDE))
        return np.asarray(image)


def _is_data(entry: Path) -> bool:
    """Return whether a file or folder is one that somebody put there as data."""
    return not entry.name.startswith(".") and entry.name not in OF_DESKTOPS
