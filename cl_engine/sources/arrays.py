"""Arrays and tables of one's own under the data root, as ``arrays/NAME``: NAME.npz, NAME.csv, or NAME/train.csv and test.csv."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from cl_engine.data import own_labels
from cl_engine.data.own_labels import HALVES
from cl_engine.data.source import Arrays, Labels, Source
from cl_engine.errors import UsageError

LABEL = "label"
CHANNELS = (1, 3, 4)  # of images as they are usually kept


class OwnArrays(Source):
    """Arrays and tables of one's own under the data root, as ``arrays/NAME``: NAME.npz, NAME.csv, or NAME/train.csv and test.csv.

    In a NumPy archive ``train_x, test_x`` are inputs ``[rows, …]`` (uint8 is scaled by mean and deviation, float32 is taken as
    it is, int64 are tokens, 0 the padding), ``train_y, test_y`` the labels, any further pair ``train_NAME, test_NAME`` a
    labelling: `labels_of` says what their type and shape mean. In a table ``label`` is the class, ``label:NAME`` a labelling, a
    column ``split`` says train or test, and all other columns are inputs. docs/data.md has examples.

    >>> OwnArrays.takes_path
    True
    """

    needs_files: ClassVar[bool] = True
    takes_path: ClassVar[bool] = True

    def load(self, root: Path) -> Arrays:
        name = f"source 'arrays/{self.path}'"
        if ".." in Path(self.path).parts or Path(self.path).is_absolute():
            raise UsageError(f"{name}: NAME is a file under the data root {root}, without '..'")
        archive, table, folder = (root / f"{self.path}{end}" for end in (".npz", ".csv", ""))
        if archive.is_file():
            return _arrays(_archive(archive, name), name)
        if table.is_file():
            return _arrays(_table([(table, "")], name), name)
        if (folder / "train.csv").is_file():
            return _arrays(_table([(folder / f"{half}.csv", half) for half in HALVES], name), name)
        raise UsageError(
            f"{name}: there is no {archive.name}, no {table.name} and no {self.path}/train.csv under the data root {root}"
        )


def _archive(file: Path, name: str) -> dict[str, np.ndarray]:
    try:
        found = np.load(file, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise UsageError(f"{name}: {file} holds one array; write numpy.savez(file, train_x=…, test_x=…, …)")
        with found:
            return {key: found[key] for key in found.files}
    except UsageError:
        raise
    except Exception as error:  # archives and heads of arrays may fail in any way
        told = str(error).partition(". ")[0]  # without the advice to load objects, which would run their code
        raise UsageError(f"{name}: {file} cannot be read as an archive of plain arrays: {told}") from None


def _table(files: list[tuple[Path, str]], name: str) -> dict[str, np.ndarray]:
    """Return the columns of tables as arrays ``train_x``, ``train_y``, ``train_NAME`` …"""
    rows: list[tuple[str, dict[str, str]]] = []
    columns: list[str] = []
    for file, half in files:
        own, found = own_labels.table(file, name)
        if columns and own != columns:
            raise UsageError(
                f"{name}: {file} has the columns {', '.join(own)}; the other table has {', '.join(columns)}"
            )
        columns = own
        if not half and "split" not in own:
            raise UsageError(
                f"{name}: {file} has no column 'split' that says 'train' or 'test'; or give train.csv and test.csv"
            )
        rows += [(half or row["split"], row) for row in found]
    wrong = sorted({half for half, _ in rows} - set(HALVES))
    if wrong:
        raise UsageError(f"{name}: a row's split is '{wrong[0]}'; allowed are train and test")
    labels = {column: column.partition(":")[2] or "y" for column in columns if column.partition(":")[0] == LABEL}
    inputs = [column for column in columns if column != "split" and column not in labels]
    try:
        x = np.array([[float(row[column]) for column in inputs] for _, row in rows], np.float32)
    except ValueError as error:
        raise UsageError(
            f"{name}: an input is no number: {error}; labels are columns '{LABEL}' and '{LABEL}:NAME'"
        ) from None
    arrays = {"x": x.reshape(len(rows), len(inputs))}
    for column, label in labels.items():
        arrays[label] = own_labels.column([row[column] for _, row in rows], f"{name}: column '{column}'")
    of = np.array([half for half, _ in rows], dtype=np.str_)
    return {f"{half}_{label}": values[of == half] for half in HALVES for label, values in arrays.items()}


def _arrays(found: dict[str, np.ndarray], name: str) -> Arrays:
    missing = [f"{half}_x" for half in HALVES if f"{half}_x" not in found]
    if missing:
        raise UsageError(f"{name}: '{missing[0]}' is missing; there are: {', '.join(sorted(found)) or 'none'}")
    train, test = (_inputs(found[f"{half}_x"], f"{name}: '{half}_x'") for half in HALVES)
    if (train.dtype, train.shape[1:]) != (test.dtype, test.shape[1:]):
        told = [f"{x.dtype} of shape {x.shape}" for x in (train, test)]
        raise UsageError(f"{name}: 'train_x' is {told[0]}, 'test_x' {told[1]}; inputs must be alike")
    labels: dict[str, Labels] = {}
    for key in sorted(found):
        half, _, label = key.partition("_")
        if half not in HALVES or not label:
            raise UsageError(
                f"{name}: '{key}' is neither of the training nor of the test rows: call it train_… or test_…"
            )
        other = f"{HALVES[half == 'train']}_{label}"
        if other not in found:
            raise UsageError(f"{name}: there is '{key}' and no '{other}'")
        if half == "train" and label != "x":
            rows = len(train), len(test)
            labels[label] = own_labels.labels_of(name, label, found[key], found[other], rows, train.shape[1:])
    vocabulary = int(max(x.max() for x in (train, test))) + 1 if train.dtype == np.int64 else None
    mean, std = _scale(train) if train.dtype == np.uint8 else ((0.0,), (1.0,))
    return own_labels.arrays_of(train, test, labels, mean, std, name, vocabulary)


def _inputs(x: np.ndarray, name: str) -> np.ndarray:
    """Return inputs ``[N, …]`` as uint8, float32 or tokens; bytes ``[N, H, W]`` as grey images ``[N, 1, H, W]``."""
    if x.ndim < 2 or not x.size:
        raise UsageError(f"{name} has shape {x.shape}; inputs are [rows, …], one row at least")
    if x.dtype == np.uint8:
        if x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
            raise UsageError(
                f"{name} has shape {x.shape}, channels last; images are [rows, channels, height, width]: transpose(0, 3, 1, 2)"
            )
        return x[:, None] if x.ndim == 3 else x
    if np.issubdtype(x.dtype, np.floating):
        return x.astype(np.float32)
    if np.issubdtype(x.dtype, np.integer) and x.ndim == 2 and (x >= 0).all():
        return x.astype(np.int64)
    raise UsageError(
        f"{name} is {x.dtype} of shape {x.shape}; allowed are uint8, floats, and tokens [rows, length] from 0 up"
    )


def _scale(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of bytes, one each channel of images."""
    axes = (0, *range(2, x.ndim)) if x.ndim == 4 else tuple(range(x.ndim))
    mean, std = np.atleast_1d(x.mean(axis=axes)), np.atleast_1d(x.std(axis=axes))
    return tuple(map(float, mean)), tuple(float(value) or 1.0 for value in std)
