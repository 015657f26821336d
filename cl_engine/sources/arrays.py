"""Arrays and tables of one's own under the data root, as ``arrays/NAME``: NAME.npz, NAME.csv, or NAME/train.csv and test.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar

import numpy as np

from cl_engine.data.source import Arrays, Labels, Source
from cl_engine.errors import UsageError

HALVES = ("train", "test")
LABEL = "label"


class OwnArrays(Source):
    """Arrays and tables of one's own under the data root, as ``arrays/NAME``: NAME.npz, NAME.csv, or NAME/train.csv and test.csv.

    In a NumPy archive ``train_x, test_x`` are inputs ``[rows, …]`` (uint8 is scaled by mean and deviation, float32 is taken as
    it is, int64 are tokens, 0 the padding), ``train_y, test_y`` class numbers; any further pair ``train_NAME, test_NAME`` is a
    labelling: whole numbers are classes ``[rows]`` or maps of classes ``[rows, H, W]``; other numbers are numbers
    ``[rows]`` or ``[rows, D]``, boxes ``[rows, K, 4]`` or maps of numbers ``[rows, C, H, W]``. In a table ``label`` is the
    class, ``label:NAME`` a labelling, a column ``split`` says train or test, and all other columns are inputs.

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
        with np.load(file, allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except Exception as error:  # archives and heads of arrays may fail in any way
        raise UsageError(f"{name}: {file} cannot be read: {error}") from None


def _table(files: list[tuple[Path, str]], name: str) -> dict[str, np.ndarray]:
    """Return the columns of tables as arrays ``train_x``, ``train_y``, ``train_NAME`` …"""
    rows: list[tuple[str, dict[str, str]]] = []
    columns: list[str] = []
    for file, half in files:
        try:
            with file.open(newline="", encoding="utf-8-sig") as text:
                reader = csv.DictReader(text, strict=True)
                found = [*reader]
                own = list(reader.fieldnames or [])
        except (OSError, ValueError, csv.Error) as error:
            raise UsageError(f"{name}: {file} cannot be read: {error}") from None
        if columns and own != columns:
            raise UsageError(
                f"{name}: {file} has the columns {', '.join(own)}; the other table has {', '.join(columns)}"
            )
        columns = own
        if not half and "split" not in own:
            raise UsageError(
                f"{name}: {file} has no column 'split' that says 'train' or 'test'; or give train.csv and test.csv"
            )
        odd = [(at, row) for at, row in enumerate(found, start=2) if None in row or None in row.values()]
        if odd:
            raise UsageError(f"{name}: line {odd[0][0]} of {file} has not as many fields as the {len(own)} columns")
        rows += [(half or row["split"], row) for row in found]
    wrong = sorted({half for half, _ in rows} - set(HALVES))
    if wrong:
        raise UsageError(f"{name}: a row's split is '{wrong[0]}'; allowed are train and test")
    inputs = [column for column in columns if column not in ("split", LABEL) and not column.startswith(f"{LABEL}:")]
    arrays: dict[str, np.ndarray] = {}
    for column in columns:
        if column != LABEL and not column.startswith(f"{LABEL}:"):
            continue
        values = _column([row[column] for _, row in rows])
        for half in HALVES:
            own_rows = [at for at, (whose, _) in enumerate(rows) if whose == half]
            arrays[f"{half}_{'y' if column == LABEL else column.partition(':')[2]}"] = values[own_rows]
    for half in HALVES:
        own_rows = [at for at, (whose, _) in enumerate(rows) if whose == half]
        try:
            x = np.array([[float(rows[at][1][column]) for column in inputs] for at in own_rows], np.float32)
        except ValueError as error:
            raise UsageError(
                f"{name}: an input is no number: {error}; labels are columns '{LABEL}' and '{LABEL}:NAME'"
            ) from None
        arrays[f"{half}_x"] = x.reshape(len(own_rows), len(inputs))
    return arrays


def _column(values: list[str]) -> np.ndarray:
    """Return labels as numbers; names as their places in order."""
    try:
        return np.array([int(value) for value in values], np.int64)
    except ValueError:
        pass
    try:
        return np.array([float(value) for value in values], np.float32)
    except ValueError:
        known = {value: number for number, value in enumerate(sorted(set(values)))}
        return np.array([known[value] for value in values], np.int64)


def _arrays(found: dict[str, np.ndarray], name: str) -> Arrays:
    missing = [f"{half}_x" for half in HALVES if f"{half}_x" not in found]
    if missing:
        raise UsageError(f"{name}: '{missing[0]}' is missing; there are: {', '.join(sorted(found)) or 'none'}")
    x = [_inputs(found[f"{half}_x"], f"{name}: '{half}_x'") for half in HALVES]
    labels = {}
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
            labels[label] = _labels(label, found[key], found[other], [len(part) for part in x], x[0].shape[1:], name)
    y = labels.pop("y", None)
    if y is not None and y.target != "classes":
        labels["y"], y = y, None
    if y is None and not labels:
        raise UsageError(f"{name}: there are no labels: train_y and test_y, or others, are needed")
    halves = [np.zeros(len(part), np.int64) for part in x] if y is None else [y.train, y.test]
    scaled = x[0].dtype == np.uint8
    mean, std = _scale(x[0]) if scaled else ((0.0,), (1.0,))
    tokens = x[0].dtype == np.int64
    vocabulary = int(max(part.max(initial=0) for part in x)) + 1 if tokens else None
    classes = 1 if y is None else int(y.options["classes"])
    return Arrays(x[0], halves[0], x[1], halves[1], classes, mean, std, {"data": name}, labels, vocabulary)


def _inputs(x: np.ndarray, name: str) -> np.ndarray:
    if x.ndim < 2:
        raise UsageError(f"{name} has shape {x.shape}; inputs are [rows, …]")
    if x.dtype == np.uint8:
        return x
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


def _labels(
    label: str, train: np.ndarray, test: np.ndarray, rows: list[int], shape: tuple[int, ...], name: str
) -> Labels:
    for half, y, count in zip(HALVES, (train, test), rows, strict=True):
        if y.ndim < 1 or len(y) != count:
            raise UsageError(f"{name}: '{half}_{label}' has shape {y.shape}, and there are {count} inputs")
        if y.shape[1:] != train.shape[1:] or y.dtype.kind != train.dtype.kind:
            raise UsageError(
                f"{name}: 'train_{label}' is {train.dtype} of shape {train.shape}, 'test_{label}' {test.dtype} of {test.shape}"
            )
    whole, ndim = train.dtype.kind in "iub", train.ndim
    if whole and ndim in (1, 3):
        both = [y.astype(np.int64) for y in (train, test)]
        known = [y[y != 255] if ndim == 3 else y for y in both]
        classes = 1 + int(max(y.max(initial=0) for y in known))
        return Labels("classes" if ndim == 1 else "class_map", {"classes": max(classes, 2 if ndim == 3 else 1)}, *both)
    if train.dtype.kind not in "fiu":
        raise UsageError(f"{name}: 'train_{label}' is {train.dtype}; labels are numbers")
    both = [y.astype(np.float32) for y in (train, test)]
    if ndim <= 2:
        both = [y.reshape(len(y), -1) for y in both]
        return Labels("numbers", {"numbers": both[0].shape[1]}, *both)
    if ndim == 3 and train.shape[2] >= 4 and len(shape) == 3:
        return Labels("boxes", {"size": list(shape[1:])}, *both)
    if ndim == 4:
        return Labels("number_map", {"channels": train.shape[1]}, *both)
    raise UsageError(
        f"{name}: 'train_{label}' is {train.dtype} of shape {train.shape}; see `run.py list sources` for what labels may be"
    )
