"""The batches of CIFAR: pickles of Python 2, read by an unpickler that knows arrays of bytes and nothing else."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct

from cl_engine.errors import UsageError

PIXELS = 3 * 32 * 32
# all that a published batch asks for by name; numpy's module is called as when the files were made
KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Batch(pickle.Unpickler):
    """Refuses every name but those of `KNOWN`, so that nothing in a file is called."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a published batch may ask for."""
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and no data of CIFAR need that")
        return KNOWN[module, name]


def read(path: Path, md5: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``[N, 3, 32, 32]`` and the labels ``[N]`` kept under the key ``labels``.

    Raises:
        UsageError: if the file is not the published one, whose checksum is ``md5``.
    """
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise UsageError(f"{path} is damaged: its MD5 is {found}, that of the published file {md5}")
    return unpacked(content, labels, str(path))


def unpacked(content: bytes, labels: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a batch whose checksum is right.

    Raises:
        UsageError: if it is no batch, or asks for anything but arrays.
    """
    try:
        batch = _Batch(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a pickle may fail in any way
        raise UsageError(f"{where} is no batch of CIFAR: {error}") from None
    images, found = (batch.get("data"), batch.get(labels)) if isinstance(batch, dict) else (None, None)
    plain = (
        isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 2 and images.shape[1] == PIXELS
    )
    if not plain or not isinstance(found, list) or not all(type(label) is int and 0 <= label < 100 for label in found):
        raise UsageError(
            f"{where} is no batch of CIFAR: data and {labels} are not rows of {PIXELS} bytes and their labels"
        )
    assert isinstance(images, np.ndarray)
    return images.reshape(-1, 3, 32, 32), np.array(found, dtype=np.int64)
