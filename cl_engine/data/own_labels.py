"""Labels from a user's hands: what they ask for is told from their type and shape."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from cl_engine.data.source import Arrays, Labels
from cl_engine.errors import UsageError
from cl_engine.targets.class_map import UNLABELLED

HALVES = ("train", "test")


def labels_of(
    where: str, label: str, train: np.ndarray, test: np.ndarray, rows: tuple[int, int], shape: tuple[int, ...]
) -> Labels:
    """Return a labelling of inputs of a ``shape``.

    Whole numbers are classes ``[N]`` or maps of classes ``[N, H, W]``; others are numbers ``[N]`` or ``[N, D]``, or maps of
    numbers ``[N, H, W]`` or ``[N, C, H, W]``; either are boxes ``[N, K, 4]`` or ``[N, K, 5]``. Maps have the size of the images.

    Args:
        where: the source, for errors.
        label: the name of the labelling.
        train, test: labels of the rows.
        rows: how many rows there are.
        shape: of an input.

    Raises:
        UsageError: for what is none of these.
    """
    for half, y, count in zip(HALVES, (train, test), rows, strict=True):
        if y.ndim < 1 or len(y) != count:
            raise UsageError(f"{where}: '{half}_{label}' has shape {y.shape}, and there are {count} inputs")
        if y.dtype.kind not in "biuf":
            raise UsageError(f"{where}: '{half}_{label}' is {y.dtype}; labels are numbers")
    kinds = ["whole" if y.dtype.kind in "biu" else "other" for y in (train, test)]
    said = f"{where}: 'train_{label}' is {train.dtype} of shape {train.shape}"
    if train.shape[1:] != test.shape[1:] or kinds[0] != kinds[1]:
        raise UsageError(f"{said}, 'test_{label}' {test.dtype} of shape {test.shape}; they must be alike")
    own, size = train.shape[1:], tuple(shape[1:]) if len(shape) == 3 else None
    if kinds[0] == "whole" and own in ((), size):
        return _classes(f"{where}: '{label}'", train, test)
    numbers = [y.astype(np.float32) for y in (train, test)]
    if len(own) < 2:
        numbers = [y.reshape(len(y), -1) for y in numbers]
        return Labels("numbers", {"numbers": numbers[0].shape[1]}, *numbers)
    if size is not None and own == size:
        return Labels("number_map", {"channels": 1}, *(y[:, None] for y in numbers))
    if size is not None and len(own) == 2 and own[1] in (4, 5):
        return Labels("boxes", {"size": list(size)}, *numbers)
    if size is not None and len(own) == 3 and own[1:] == size:
        return Labels("number_map", {"channels": own[0]}, *numbers)
    inputs = f"images of {size[0]} × {size[1]}" if size else f"inputs of shape {shape}, which are no images"
    raise UsageError(
        f"{said}, for {inputs}; allowed are [rows], [rows, numbers], and of images boxes [rows, boxes, 4] and maps of their "
        "size, [rows, height, width] or [rows, channels, height, width]"
    )


def arrays_of(
    train: np.ndarray,
    test: np.ndarray,
    labels: dict[str, Labels],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    about: str,
    vocabulary: int | None = None,
) -> Arrays:
    """Return a source's arrays, whose class is the labelling ``y``, if it is one of classes; else one class of all rows."""
    y, classes = labels.get("y"), 1
    train_y, test_y = (np.zeros(len(x), np.int64) for x in (train, test))
    if y is not None and y.target == "classes":
        del labels["y"]
        train_y, test_y, classes = y.train, y.test, int(y.options["classes"])
    return Arrays(train, train_y, test, test_y, classes, mean, std, {"data": about}, labels, vocabulary)


def table(file: Path, said: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the rows of a CSV file.

    Raises:
        UsageError: if it cannot be read, or a row has more or fewer fields than there are columns.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, strict=True)
            found = [*reader]
            columns = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{said}: {file} cannot be read: {error}") from None
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise UsageError(f"{said}: {file} has two columns '{twice}'")
    odd = next((at for at, row in enumerate(found, start=2) if None in row or None in row.values()), None)
    if odd is not None:
        raise UsageError(f"{said}: line {odd} of {file} has not as many fields as the {len(columns)} columns")
    return columns, found


def column(values: list[str], said: str) -> np.ndarray:
    """Return a column of labels: whole numbers, numbers, or names as their places in the order of the alphabet.

    Raises:
        UsageError: for numbers among which there is text.
    """
    found = [_number(value) for value in values]
    if all(isinstance(number, int) for number in found):
        return np.array(found, np.int64)
    odd = next((at for at, number in enumerate(found) if number is None), None)
    if odd is None:
        return np.array(found, np.float32)
    if any(number is not None for number in found):
        raise UsageError(f"{said}: '{values[odd]}' is no number, and others of the column are")
    known = {value: number for number, value in enumerate(sorted(set(values)))}
    return np.array([known[value] for value in values], np.int64)


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None


def _classes(said: str, train: np.ndarray, test: np.ndarray) -> Labels:
    both = [y.astype(np.int64) for y in (train, test)]
    if train.ndim == 1:
        return Labels("classes", {"classes": 1 + int(max(y.max(initial=0) for y in both))}, *both)
    known = [np.unique(y[y != UNLABELLED]) for y in both]
    if len(np.union1d(*known)) == 1 and any((y == UNLABELLED).any() for y in both):
        raise UsageError(
            f"{said} holds {known[0][0]} and {UNLABELLED} alone, and {UNLABELLED} stands for places without a label: number "
            "classes 0, 1, 2, …"
        )
    classes = 1 + int(max(numbers.max(initial=1) for numbers in known))
    if classes > UNLABELLED:
        raise UsageError(
            f"{said} holds class {classes - 1}; maps of classes may have the classes 0 to {UNLABELLED - 1}"
        )
    return Labels("class_map", {"classes": classes}, *both)
