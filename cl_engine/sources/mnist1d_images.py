"""MNIST-1D as images: textures that signals make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cl_engine.source_stream import Arrays, Source
from cl_engine.sources.mnist1d import Mnist1d


class Mnist1dImages(Source):
    """MNIST-1D as images: each signal as its Gramian angular field, 40 × 40 grey textures in 10 classes (Wang & Oates 2015).

    Pixel (i, j) is cos(φᵢ + φⱼ), φ the arc cosine of the signal brought to −1 … 1.
    """

    def load(self, root: Path) -> Arrays:
        signals = Mnist1d().load(root)
        train, test = _fields(signals.train_x[:, 0]), _fields(signals.test_x[:, 0])
        scale = (float(train.mean()),), (float(train.std()),)
        return Arrays(train, signals.train_y, test, signals.test_y, 10, *scale, about=signals.about)

    def fetch(self, root: Path) -> None:
        Mnist1d().fetch(root)


def _fields(signals: np.ndarray) -> np.ndarray:
    """Return uint8 images ``[N, 1, 40, 40]`` of signals ``[N, 40]``."""
    low, high = signals.min(axis=1, keepdims=True), signals.max(axis=1, keepdims=True)
    cosine = np.clip(2 * (signals - low) / (high - low) - 1, -1, 1)
    sine = np.sqrt(1 - cosine**2)
    fields = cosine[:, :, None] * cosine[:, None, :] - sine[:, :, None] * sine[:, None, :]
    images: np.ndarray = np.round(127.5 * (fields[:, None] + 1)).astype(np.uint8)
    return images
