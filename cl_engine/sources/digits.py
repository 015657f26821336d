"""The digits that scikit-learn ships: no download, no data root."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
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
        rows = _shipped()
        x = rows[:, :-1].reshape(-1, 1, 8, 8)
        y = rows[:, -1].astype(np.int64)
        test = np.zeros(len(y), dtype=bool)
        for label in range(10):
            own = rng.arrays(0, "digits", label).permutation(np.flatnonzero(y == label))
            test[own[: len(own) // 5]] = True
        scale = (float(x[~test].mean()),), (float(x[~test].std()),)
        return Arrays(x[~test], y[~test], x[test], y[test], 10, *scale, about={"data": "scikit-learn digits"})


@cache
def _shipped() -> np.ndarray:
    """Return the rows of the file that `sklearn.datasets.load_digits` reads, ``[1797, 65]``: pixels, then the label.

    The file, as importing scikit-learn takes longer than all that a small run does; where it is elsewhere, by the function.
    """
    package = find_spec("sklearn")
    file = Path(package.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if package else None
    if file and file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.column_stack([found.data, found.target]).astype(np.uint8)
