"""The digits that scikit-learn ships: no download, no data root."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cl_engine.core import rng
from cl_engine.data.source import Arrays, Source


class Digits(Source):
    """Digits: 1,797 handwritten digits of 8 × 8 pixels, shipped with scikit-learn (UCI, Alpaydin & Kaynak 1998).

    scikit-learn has no test set of its own: every class is divided 4 to 1, always in the same way.

    >>> from pathlib import Path
    >>> Digits().load(Path("nowhere")).train_x.shape
    (1442, 1, 8, 8)
    """

    def load(self, root: Path) -> Arrays:
        from sklearn.datasets import load_digits

        found = load_digits()
        x = found.images.astype(np.uint8)[:, None]
        y = found.target.astype(np.int64)
        test = np.zeros(len(y), dtype=bool)
        for label in range(10):
            rows = rng.arrays(0, "digits", label).permutation(np.flatnonzero(y == label))
            test[rows[: len(rows) // 5]] = True
        scale = (float(x[~test].mean()),), (float(x[~test].std()),)
        return Arrays(x[~test], y[~test], x[test], y[test], 10, *scale, about={"data": "scikit-learn digits"})
