"""Labels beside folders of images: masks as PNG files, and numbers as CSV tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image

from cl_engine.data import image_files, own_labels
from cl_engine.errors import UsageError

FILE = "file"  # the column that says which image a row of a table is about


def masks(
    folder: Path,
    images: Path,
    files: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    cut: Callable[[Image], Image],
    said: str,
) -> np.ndarray:
    """Return masks ``[N, H, W]`` of class numbers, each under the path of its image below ``images``, as .png.

    Args:
        folder: where masks are.
        images: where images are.
        files: images, in order.
        sizes: width and height of each.
        cut: brings a mask to the size that images are brought to.
        said: the source, for errors.

    Raises:
        UsageError: for a mask that is missing, of another size than its image, or no PNG of class numbers.
    """
    found = []
    for file, size in zip(files, sizes, strict=True):
        path = folder / file.relative_to(images).with_suffix(".png")
        if not path.is_file():
            raise UsageError(f"{said}: there is {file} and no mask {path}")
        mask = image_files.read_classes(path)
        if mask.size != size:
            told = [f"{width} × {height}" for width, height in (mask.size, size)]
            raise UsageError(f"{said}: the mask {path} is of {told[0]} pixels, and its image of {told[1]}")
        found.append(np.asarray(cut(mask)).astype(np.int64))
    return np.stack(found)


def numbers(file: Path, images: Path, files: Sequence[Path], said: str) -> dict[str, list[str]]:
    """Return the columns of a table as texts, a row each image: of the row whose ``file`` is its path below ``images``.

    Raises:
        UsageError: for an image without a row, a row without an image, two rows of one, or a table without columns.
    """
    columns, rows = own_labels.table(file, said)
    if FILE not in columns or len(columns) < 2:
        raise UsageError(
            f"{said}: {file} has the columns {', '.join(columns) or 'none'}; '{FILE}' and others are needed"
        )
    names = [path.relative_to(images).as_posix() for path in files]
    told = [row[FILE] for row in rows]
    for odd, what in (
        (sorted(set(told) - set(names)), "names '{}', and there is no such image under"),
        (sorted(set(names) - set(told)), "has no row for '{}', an image under"),
        ([name for name, count in Counter(told).items() if count > 1], "has two rows for '{}', an image under"),
    ):
        if odd:
            raise UsageError(f"{said}: {file} {what.format(odd[0])} {images}")
    of = {row[FILE]: row for row in rows}
    return {column: [of[name][column] for name in names] for column in columns if column != FILE}
