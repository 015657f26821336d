"""MNIST-1D as images: textures that signals make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cl_engine.data.mnist1d import generate, signals
from cl_engine.data.source import Arrays, Source


class Mnist1dImages(Source):
    """MNIST-1D as images: each signal as its Gramian angular field, 40 × 40 grey textures in 10 classes (Wang & Oates 2015).

    Pixel (i, j) is cos(φᵢ + φⱼ), φ the arc cosine of the signal brought to −1 … 1.

    >>> Mnist1dImages.needs_files
    False
    """

    def load(self, root: Path) -> Arrays:
        data = signals(root)
        train, test = _fields(data["x"][:, 0]), _fields(data["x_test"][:, 0])
        scale = (float(train.mean()),), (float(train.std()),)
        return Arrays(train, data["y"], test, data["y_test"], 10, *scale, about={"data": "mnist1d, seed 42"})

    def fetch(self, root: Path) -> None:
        generate(root)


def _fields(lines: np.ndarray) -> np.ndarray:
    """Return uint8 images ``[N, 1, 40, 40]`` of signals ``[N, 40]``."""
    low, high = lines.min(axis=1, keepdims=True), lines.max(axis=1, keepdims=True)
    cosine = np.clip(2 * (lines - low) / np.maximum(high - low, 1e-12) - 1, -1, 1)
    sine = np.sqrt(1 - cosine**2)
    fields = cosine[:, :, None] * cosine[:, None, :] - sine[:, :, None] * sine[:, None, :]
    images: np.ndarray = np.round(127.5 * (fields[:, None] + 1)).astype(np.uint8)
    return images
