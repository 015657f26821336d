"""Images in folders, with classes, masks or numbers: a user's own data, or the fine-grained sets of the ImageNet protocols."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL.Image import Image, Resampling

from cl_engine.data import beside_images, image_files, own_labels
from cl_engine.data.own_labels import HALVES
from cl_engine.data.source import Arrays, Labels, Source
from cl_engine.errors import UsageError
from cl_engine.options import option

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
SHORT_SIDE, SIDE = 256, 224
CLASS = "label"  # the column of a table that is the class
OF_DESKTOPS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")  # beside hidden ones
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Folder(Source):
    """Folder: images under the data root, as ``folder/NAME``: NAME/train/CLASS/*.jpg and NAME/test/CLASS/*.jpg.

    Images that all have one size are taken as they are; otherwise the shorter side becomes 256 pixels and the central
    224 × 224 are taken, as for nets trained on ImageNet, whose means and deviations scale them. ``val`` serves where
    there is no ``test``. What desktops and notebooks leave in folders (hidden files and folders, ``__MACOSX``) is passed
    over. Images may lie in NAME/train itself where they have no classes.

    Further labellings stand beside: masks of class numbers (grey, or in a palette) as NAME/train_LABELLING/…/IMAGE.png, and
    numbers, classes or names as columns of NAME/train.csv, whose column ``file`` is the image's path below NAME/train; its
    column ``label`` is the class of images in no folders of classes. The same for ``test``. docs/data.md has examples.

    >>> Folder.needs_files
    True
    """

    needs_files: ClassVar[bool] = True
    takes_path: ClassVar[bool] = True

    upright: bool = option(False, "photographs turned as their EXIF orientation says; false: as stored")

    def load(self, root: Path) -> Arrays:
        classes = self._classes(root)
        folders = [self._half(root, half) for half in HALVES]
        found = [self._files(folder, classes) for folder in folders]
        files = [[file for file, _ in half] for half in found]
        sizes = [[image_files.size(file, upright=self.upright) for file in half] for half in files]
        same = len({size for half in sizes for size in half}) == 1
        train_x, test_x = (self._read(half, same) for half in files)
        rows = len(train_x), len(test_x)
        labels = {}
        if classes:
            train_y, test_y = (np.array([label for _, label in half], np.int64) for half in found)
            labels[CLASS] = Labels("classes", {"classes": len(classes)}, train_y, test_y)

        def add(label: str, train: np.ndarray, test: np.ndarray) -> None:
            if label in labels:
                raise UsageError(
                    f"{self._said}: there are two labellings '{label}', of folders, masks or columns of a table"
                )
            shape = train_x.shape[1:]
            labels[label] = own_labels.labels_of(self._said, label, train, test, rows, shape)

        for name in self._masks(folders):
            places = [folder.with_name(f"{folder.name}_{name}") for folder in folders]
            cut = partial(_cut, same=same, how=Resampling.NEAREST)
            halves = zip(places, folders, files, sizes, strict=True)
            add(name, *(beside_images.masks(*half, cut, self._said) for half in halves))
        for name, values in self._columns(folders, files).items():
            whole = own_labels.column(values, f"{self._said}: column '{name}'")
            add(name, whole[: rows[0]], whole[rows[0] :])
        labels = {"y" if name == CLASS else name: found for name, found in labels.items()}
        mean, std = (tuple(255 * value for value in values) for values in IMAGENET)
        return own_labels.arrays_of(train_x, test_x, labels, mean, std, f"folder {self.path}")

    @property
    def _said(self) -> str:
        return f"source 'folder/{self.path}'"

    def _half(self, root: Path, half: str) -> Path:
        folder = root / self.path / half
        return folder if half == "train" or folder.is_dir() else root / self.path / "val"

    def _classes(self, root: Path) -> list[str]:
        folder = self._half(root, "train")
        if ".." in Path(self.path).parts or Path(self.path).is_absolute():
            raise UsageError(f"{self._said}: NAME is a folder under the data root {root}, without '..'")
        if not self.path or not folder.is_dir():
            raise UsageError(
                f"{self._said}: there is no folder {folder}; expected are NAME/train/CLASS/*.jpg and "
                f"NAME/test/CLASS/*.jpg under the data root {root}, named as source = 'folder/NAME'"
            )
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _is_data(entry))

    def _files(self, folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
        """Return the images of a half, and the number of the class of each: 0 where there are none."""
        found = []
        for label, place in enumerate([folder / name for name in classes] or [folder]):
            images = [file for file in sorted(place.glob("*")) if file.suffix.lower() in SUFFIXES and _is_data(file)]
            if not images:
                raise UsageError(f"{self._said}: {place} holds no images")
            found += [(file, label) for file in images]
        return found

    def _masks(self, folders: list[Path]) -> list[str]:
        """Return the names of the labellings that there are masks of."""
        names = [
            {
                entry.name.removeprefix(f"{half.name}_")
                for entry in half.parent.glob(f"{half.name}_?*")
                if entry.is_dir()
            }
            for half in folders
        ]
        for own, other, half in (*zip(names, names[::-1], folders[::-1], strict=True),):
            if own - other:
                raise UsageError(
                    f"{self._said}: there is no folder {half}_{min(own - other)} of masks, as for the other rows"
                )
        return sorted(names[0])

    def _columns(self, folders: list[Path], files: list[list[Path]]) -> dict[str, list[str]]:
        """Return the columns of the tables beside the images, training rows first."""
        tables = [half.with_name(f"{half.name}.csv") for half in folders]
        there = [file.is_file() for file in tables]
        if not any(there):
            return {}
        if not all(there):
            raise UsageError(f"{self._said}: there is {tables[there.index(True)]} and no {tables[there.index(False)]}")
        halves = zip(tables, folders, files, strict=True)
        train, test = (beside_images.numbers(*half, self._said) for half in halves)
        if train.keys() != test.keys():
            raise UsageError(
                f"{self._said}: {tables[0]} has the columns {', '.join(train)}, {tables[1]} {', '.join(test)}"
            )
        return {name: train[name] + test[name] for name in train}

    def _read(self, files: list[Path], same: bool) -> np.ndarray:
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter
            images = list(pool.map(lambda file: self._image(file, same), files))
        return np.stack(images).transpose(0, 3, 1, 2).copy()

    def _image(self, file: Path, same: bool) -> np.ndarray:
        return np.asarray(_cut(image_files.read(file, upright=self.upright), same, Resampling.BILINEAR))


def _cut(image: Image, same: bool, how: Resampling) -> Image:
    """Return an image of the size that all are brought to."""
    if same:
        return image
    scale = SHORT_SIDE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), how)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return image.crop((left, top, left + SIDE, top + SIDE))


def _is_data(entry: Path) -> bool:
    """Return whether a file or folder is one that somebody put there as data."""
    return not entry.name.startswith(".") and entry.name not in OF_DESKTOPS
