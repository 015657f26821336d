"""The journal of a log: rows saved since the log was last published, so that a save costs only what is new."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LENGTHS = struct.Struct("<4sQQ")  # what begins a block: sign, bytes of text, bytes of numbers
SUM = struct.Struct("<I")  # CRC-32 of these, of the text and of the numbers
SIGN = b"clj2"
Block = tuple[dict[str, Any], np.ndarray]


class Journal:
    """Blocks that are appended to one file, each a JSON text and an array of numbers ``[n, columns]``.

    The first block says which log it goes on from. A block that is not whole, and all after it, count as not written.

    >>> journal = Journal(Path("log.journal"))
    >>> journal.begin("log-1")
    >>> journal.append({"name": ["a"]}, np.array([[1, 2]]))
    >>> [lists["name"] for lists, numbers in journal.blocks("log-1")]
    [['a']]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = False

    def begin(self, log: str) -> None:
        """Begin anew, beside the log of this name; nothing is written before there is something to append."""
        self.path.unlink(missing_ok=True)
        self._log, self._begun = log, False

    def append(self, lists: Mapping[str, Any], numbers: np.ndarray) -> None:
        """Write a block to the end of the file."""
        with self.path.open("ab") as file:
            if not self._begun:
                file.write(_block({"log": self._log}, np.zeros((0, 1), np.int64)))
                self._begun = True
            file.write(_block(lists, numbers))

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._begun:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def blocks(self, log: str) -> Iterator[Block]:
        """Yield what was appended since the log of this name was published; nothing, if the journal is of another."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            found = _read(file)
            if found is None or found[0].get("log") != log:
                return
            while (found := _read(file)) is not None:
                yield found


def _block(lists: Mapping[str, Any], numbers: np.ndarray) -> bytes:
    kind = "<f8" if numbers.dtype.kind == "f" else "<i8"
    text = json.dumps({**lists, "columns": numbers.shape[1], "type": kind}, default=lambda one: one.item()).encode()
    content = np.ascontiguousarray(numbers, dtype=kind).tobytes()
    lengths = LENGTHS.pack(SIGN, len(text), len(content))
    return lengths + SUM.pack(zlib.crc32(lengths + text + content)) + text + content


def _read(file: BinaryIO) -> Block | None:
    head = file.read(LENGTHS.size + SUM.size)
    if len(head) < LENGTHS.size + SUM.size:
        return None
    lengths, (crc32,) = head[: LENGTHS.size], SUM.unpack(head[LENGTHS.size :])
    sign, letters, length = LENGTHS.unpack(lengths)
    if sign != SIGN or letters + length > os.fstat(file.fileno()).st_size:
        return None
    text, content = file.read(letters), file.read(length)
    if zlib.crc32(lengths + text + content) != crc32:
        return None
    lists: dict[str, Any] = json.loads(text)
    kind = lists.pop("type", "<i8")  # journals begun before format 2.0 do not say
    return lists, np.frombuffer(content, dtype=kind).reshape(-1, lists.pop("columns"))
