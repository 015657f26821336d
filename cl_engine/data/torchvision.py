"""Data sets in torchvision's file layout: read from the data root, downloaded only when asked."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_engine.data import cifar, idx
from cl_engine.data.source import Arrays, Source
from cl_engine.errors import UsageError


class TorchvisionSource(Source):
    """A classification set that ``torchvision.datasets`` downloads, read from its files without torchvision's own loaders.

    A subclass names the class there, the number of classes and the published channel means and deviations (of 0 … 1; left
    out: those of the training images), and says whether the classes are the ten digits.

    >>> from cl_engine.sources.mnist import Mnist
    >>> Mnist.needs_files, Mnist.dataset
    (True, 'MNIST')
    """

    needs_files: ClassVar[bool] = True
    digits: ClassVar[bool] = False
    dataset: str
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    name: str

    def load(self, root: Path) -> Arrays:
        (train_x, train_y), (test_x, test_y) = (self.half(root, train) for train in (True, False))
        own = self.mean, self.std
        mean, std = (tuple(255 * value for value in part) for part in own) if self.mean else scale_of(train_x)
        return Arrays(
            np.ascontiguousarray(train_x),
            train_y.astype(np.int64),
            np.ascontiguousarray(test_x),
            test_y.astype(np.int64),
            self.classes,
            mean,
            std,
            about={"data": f"torchvision {self.dataset}"},
            digits=self.digits,
        )

    def fetch(self, root: Path) -> None:
        for train in (True, False):
            opened(self.name, self.dataset, root, download=True, train=train)

    @abstractmethod
    def half(self, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return images ``[N, C, H, W]`` and labels ``[N]`` of the training or the test half."""

    def file(self, root: Path, *parts: str) -> Path:
        """Return a file of the set; a `UsageError` that says how to get it if it is not there."""
        path = root.joinpath(*parts)
        if not path.is_file():
            raise missing(self.name, root)
        return path


class MnistLike(TorchvisionSource):
    """MNIST, or a set that is published in its place: IDX files.

    >>> from cl_engine.sources.fashion_mnist import FashionMnist
    >>> issubclass(FashionMnist, MnistLike), FashionMnist.dataset
    (True, 'FashionMNIST')
    """

    first_label = 0  # in the files

    def half(self, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
        folder, half = (self.dataset, "raw"), self.prefix(train)
        images = self.file(root, *folder, f"{half}-images-idx3-ubyte")
        labels = self.file(root, *folder, f"{half}-labels-idx1-ubyte")
        x, y = idx.read(images, 3), idx.read(labels, 1)
        found = y.astype(np.int64) - self.first_label
        if len(x) != len(y) or (len(y) and not 0 <= found.min() <= found.max() < self.classes):
            raise UsageError(
                f"{labels} is damaged: {len(y)} labels up to {max(y, default=0)} for {len(x)} images of {self.classes} classes"
            )
        return x[:, None], found

    def prefix(self, train: bool) -> str:
        """Return what the names of the files of a half begin with."""
        return "train" if train else "t10k"


class CifarLike(TorchvisionSource):
    """CIFAR-10 or CIFAR-100: batches whose checksums torchvision knows.

    >>> from cl_engine.sources.cifar100 import Cifar100
    >>> Cifar100.labels
    'fine_labels'
    """

    labels: str

    def half(self, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets  # 1 s to import: only when used

        known = getattr(datasets, self.dataset)
        parts = [
            cifar.read(self.file(root, known.base_folder, name), md5, self.labels)
            for name, md5 in (known.train_list if train else known.test_list)
        ]
        images, labels = zip(*parts, strict=True)
        return np.concatenate(images), np.concatenate(labels)


def opened(name: str, dataset: str, root: Path, download: bool, **options: Any) -> Any:
    """Return a set of ``torchvision.datasets`` that the source ``name`` reads, downloaded if so wished.

    Raises:
        UsageError: if its files are not under ``root`` (with the command that gets them), or cannot be downloaded.
    """
    from torchvision import datasets  # 1 s to import: only when used

    try:
        return getattr(datasets, dataset)(root, download=download, **options)
    except Exception as error:  # whatever is in the files may fail in any way
        if download:
            raise UsageError(f"could not download {dataset} to {root}: {error}") from None
        if "not found" in str(error) or isinstance(error, FileNotFoundError):
            raise missing(name, root) from None
        raise UsageError(f"the files of '{name}' under {root} are damaged: {error}") from None


def scale_of(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of images of bytes ``[N, C, H, W]``, a number each channel."""
    value = np.arange(256)
    counts = np.zeros((images.shape[1], 256))
    for part in np.array_split(images, max(1, len(images) // 1_000)):  # counting takes 8 bytes a number
        counts += [np.bincount(of_channel.ravel(), minlength=256) for of_channel in part.swapaxes(0, 1)]
    mean = (counts * value).sum(axis=1) / counts.sum(axis=1)
    variance = (counts * (value - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def missing(name: str, root: Path) -> UsageError:
    """Return the error for files of a set that are not under ``root``, with the command that gets them."""
    return UsageError(
        f"the files of '{name}' are not under {root} in torchvision's layout; "
        f"get them with: python run.py fetch {name} --data-root {root}"
    )
