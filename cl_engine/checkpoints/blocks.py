"""Block files: rows of bytes that are only ever appended, beside the checkpoint that says where each of them is."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cl_engine.core.files import sync_folder
from cl_engine.errors import UsageError

SUFFIX = ".blocks"


class BlockFiles:
    """The block files of one checkpoint, each with a number: ``checkpoint.1.blocks`` beside ``checkpoint.safetensors``.

    What stands in one is never written over. A file is removed when no checkpoint names it any more.

    >>> BlockFiles(Path("checkpoint.safetensors")).path(1).name
    'checkpoint.1.blocks'
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def path(self, number: int) -> Path:
        """Return the path of the file of this number."""
        return self.checkpoint.with_name(f"{self.checkpoint.stem}.{number}{SUFFIX}")

    def number(self, name: str) -> int | None:
        """Return the number of the file of this name; None for any other name."""
        found = re.fullmatch(re.escape(self.checkpoint.stem) + r"\.([1-9][0-9]*)" + re.escape(SUFFIX), name)
        return int(found[1]) if found else None

    def numbers(self) -> list[int]:
        """Return the numbers of the files that are there, in order."""
        found = (self.number(file.name) for file in self.checkpoint.parent.glob(f"*{SUFFIX}"))
        return sorted(number for number in found if number is not None)

    def size(self, number: int) -> int:
        """Return the bytes of a file, 0 if there is none."""
        path = self.path(number)
        return path.stat().st_size if path.exists() else 0

    def keep_only(self, numbers: Collection[int]) -> None:
        """Remove the files of all other numbers."""
        for number in self.numbers():
            if number not in numbers:
                self.path(number).unlink()


class Appending:
    """Appends to one block file; on leaving, all that was written is on the disk. The file is opened at the first write.

    >>> with Appending(Path("checkpoint.1.blocks")) as out:
    ...     first, second = out.write(np.zeros(4, np.uint8)), out.write(np.ones(2, np.uint8))
    >>> first, second
    (0, 4)
    """

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, 0
        self._new = not path.exists()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Appending:
        return self

    def write(self, content: np.ndarray) -> int:
        """Write bytes to the end of the file; return where they begin."""
        self._file = self._file or self.path.open("ab")
        begin = self._file.tell()
        self._file.write(content.data)
        self.written += len(content)
        return begin

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if self._file is None:
            return
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if kind is None and self._new:
            sync_folder(self.path.parent)


class Opened:
    """Block files while they are read; what is read is checked.

    >>> Opened(BlockFiles(Path("other.safetensors"))).files.numbers()
    []
    """

    def __init__(self, files: BlockFiles) -> None:
        self.files = files
        self._content: dict[int, np.ndarray] = {}

    def content(self, number: int) -> np.ndarray:
        """Return the bytes of a file, read when they are looked at.

        Raises:
            UsageError: if there is no such file.
        """
        if number not in self._content:
            if not isinstance(number, int):
                raise UsageError(f"{self.files.checkpoint} is damaged: the number of a block file is {number!r}")
            path = self.files.path(number)
            try:
                empty = not path.stat().st_size
                self._content[number] = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise UsageError(f"{self.files.checkpoint} is not whole: {path} cannot be read ({error})") from None
        return self._content[number]

    def reaching(self, number: int, end: int, of: str) -> int:
        """Return the bytes of a file that is to hold all up to ``end``.

        Raises:
            UsageError: if it ends before.
        """
        held = len(self.content(number))
        if end > held:
            raise UsageError(f"{self.files.path(number)} is damaged: it ends before what it holds of '{of}'")
        return held

    def part(self, number: int, offset: int, length: int, crc32: int, of: str) -> np.ndarray:
        """Return a copy of ``length`` bytes of a file.

        Raises:
            UsageError: if they are not there, or not those that were written.
        """
        self.reaching(number, offset + length, of)
        content = self.content(number)
        if offset < 0:
            raise UsageError(
                f"{self.files.checkpoint} is damaged: '{of}' is said to be at byte {offset} of its block file"
            )
        found = np.array(content[offset : offset + length])
        if zlib.crc32(found.data) != crc32:
            raise UsageError(f"{self.files.path(number)} is damaged: the checksum of '{of}' at byte {offset} is wrong")
        return found
