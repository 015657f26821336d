"""State on disk: a safetensors file, checked by checksums, replaced as a whole, and loaded without running code."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from cl_engine.checkpoints.blocks import BlockFiles, Opened
from cl_engine.core.bank import Bank
from cl_engine.core.files import replace
from cl_engine.core.tree import leaves_with_path, unflatten
from cl_engine.errors import MayNotBeRead, UsageError, is_out_of_memory

FORMAT = "cl-engine-checkpoint/2"
READABLE = (FORMAT, "cl-engine-checkpoint/1")
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}

NUMPYS = set(DTYPES.values()) - {torch.bfloat16}


def save(path: Path, state: Mapping[str, Any]) -> int:
    """Write a nested dict of tensors, arrays, banks, numbers, strings and lists of them to ``path``; return the bytes written.

    The file is complete and on the disk (fsync) before it takes the place of the one that was there. A run that saves
    again and again keeps a `cl_engine.checkpoints.store.Store`, which appends what is new.
    """
    found = flat(state)
    contents = Contents(order=list(found))
    for name, leaf in found.items():
        contents.add(name, leaf)
    part = path.with_name(path.name + ".part")
    contents.write(part)
    replace(part, path)
    return path.stat().st_size


def load(path: Path, device: torch.device | None = None) -> dict[str, Any]:
    """Return what `save`, or the store of a run, wrote, its tensors on ``device``.

    Raises:
        UsageError: if the file is damaged or is no checkpoint of this program.
    """
    return nested(read(path).leaves(path, device))


def flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of a nested dict by their names, ``a/b/c``, in its order; keys may hold that sign."""
    return {"/".join(quote(key, safe=" ") for key in place): leaf for place, leaf in leaves_with_path(state)}


def nested(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dict that has these leaves: the inverse of `flat`."""
    return unflatten({tuple(map(unquote, name.split("/"))): leaf for name, leaf in found.items()})


@dataclass
class Contents:
    """The contents of one file: tensors, and a list of all else.

    >>> contents = Contents()
    >>> contents.add("net/weight", torch.zeros(2, 3))
    >>> list(contents.tensors)
    ['net/weight']

    Attributes:
        tensors: the tensors in the file itself, by name. That of a bank whose rows are in block files has a row for each of
            them: how often it was written, number of the file, place in it, and CRC-32 (int64).
        values: numbers, strings and lists.
        banks: of banks in the file itself, how often each row was written.
        arrays: names of what is an array of NumPy's.
        rows: of banks in block files, the type and the shape ``[S, …]`` of a row.
        blocks: of tensors in block files, the type, the shape, and number, place and CRC-32 as above.
        order: the names of all leaves in the order of the dict they came from, which sums may follow.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    banks: dict[str, list[int]] = field(default_factory=dict)
    arrays: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def add(self, name: str, leaf: Any) -> None:
        """Take in a leaf, to be held in the file itself."""
        if isinstance(leaf, Bank):
            self.tensors[name], self.banks[name] = leaf.rows.contiguous().cpu(), leaf.written.tolist()
        elif isinstance(leaf, Tensor | np.ndarray):
            self.tensors[name] = plain(leaf)
            self.arrays += [name] if isinstance(leaf, np.ndarray) else []
        else:
            self.values[name] = leaf

    @property
    def numbers(self) -> set[int]:
        """The numbers of the block files that are needed."""
        files = [self.tensors[name][:, 1].unique().tolist() for name in self.rows]
        return {number for found in files for number in found} | {block["file"] for block in self.blocks.values()}

    def write(self, path: Path) -> None:
        """Write the file, with checksums of all it holds."""
        about = {name: value for name, value in vars(self).items() if name != "tensors"}
        sums = {name: zlib.crc32(as_bytes(tensor).data) for name, tensor in self.tensors.items()}
        content = json.dumps({**about, "crc32": sums})
        metadata = {"format": FORMAT, "content": content, "crc32": str(zlib.crc32(content.encode()))}
        if all(tensor.dtype in NUMPYS for tensor in self.tensors.values()):
            save_file({name: tensor.numpy() for name, tensor in self.tensors.items()}, path, metadata=metadata)
        else:  # makes a type of ctypes for every number of bytes, and keeps it for good
            save_tensors(self.tensors, path, metadata=metadata)

    def leaves(self, path: Path, device: torch.device | None) -> dict[str, Any]:
        """Return all leaves by name, those in block files among them; ``path`` is where the contents were read from.

        Raises:
            UsageError: if a block file is missing or damaged.
        """
        found: dict[str, Any] = dict(self.values)
        opened = Opened(BlockFiles(first(path)))
        try:
            if not self.rows.keys() <= self.tensors.keys():
                raise UsageError(f"{path} is damaged: it does not say where the rows of its banks are")
            for name, stored in self.tensors.items():
                if name in self.rows:
                    found[name] = Bank(self._rows_of(name, opened).to(device), stored[:, 0].numpy())
                elif name in self.banks:
                    found[name] = Bank(stored.to(device), self.banks[name])
                else:
                    found[name] = stored.numpy() if name in self.arrays else stored.to(device)
            for name, block in self.blocks.items():
                dtype, shape = DTYPES[block["dtype"]], block["shape"]
                whole = self._part(name, block, opened).view(dtype).reshape(shape)
                found[name] = whole.numpy() if name in self.arrays else whole.to(device)
            if self.order and sorted(found) != sorted(self.order):  # empty: written before it was kept
                raise UsageError(f"{path} is damaged: it does not hold what its contents list names")
            return {name: found[name] for name in self.order} or found
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            raise UsageError(f"{path} is damaged or is no checkpoint: {error}") from None

    def _rows_of(self, name: str, opened: Opened) -> Tensor:
        dtype, shape = DTYPES[self.rows[name]["dtype"]], self.rows[name]["shape"]
        index, length = self.tensors[name], _length(shape, dtype)
        held = 0
        for number in index[:, 1].unique().tolist():
            held += opened.reaching(number, int(index[index[:, 1] == number, 2].max()) + length, name)
        if len(index) * length > held:
            raise UsageError(
                f"{opened.files.checkpoint} is damaged: '{name}' is said to be larger than its block files"
            )
        rows = torch.empty(shape[0], len(index), *shape[1:], dtype=dtype)
        for row, (_, number, offset, crc32) in enumerate(index.tolist()):
            part = opened.part(number, offset, length, crc32, name)
            rows[:, row] = torch.from_numpy(part).view(dtype).reshape(shape)
        return rows

    @staticmethod
    def _part(name: str, block: Mapping[str, Any], opened: Opened) -> Tensor:
        length = _length(block["shape"], DTYPES[block["dtype"]])
        return torch.from_numpy(opened.part(block["file"], block["at"], length, block["crc32"], name))


def read(path: Path) -> Contents:
    """Return what a file holds, once its checksums are right; block files are not looked at.

    Raises:
        UsageError: if the file is damaged or is no checkpoint of this program, or may not be read.
    """
    try:
        path.open("rb").close()  # of a file that may not be read safetensors says that there is none
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") not in READABLE:
                raise UsageError(f"{path} is not a checkpoint of this version: format {metadata.get('format')!r}")
            text = metadata["content"]
            if str(zlib.crc32(text.encode())) != metadata["crc32"]:
                raise UsageError(f"{path} is damaged: the checksum of its contents list is wrong")
            content = json.loads(text)
            sums = content.pop("crc32")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            contents = Contents(tensors, **content)
    except PermissionError as error:
        raise MayNotBeRead(path, error) from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(f"{path} is damaged or is no checkpoint: {error}") from None
    if set(tensors) != set(sums):
        raise UsageError(f"{path} is damaged: it does not hold the tensors its contents list names")
    for name, tensor in tensors.items():
        if zlib.crc32(as_bytes(tensor).data) != sums[name]:
            raise UsageError(f"{path} is damaged: the checksum of '{name}' is wrong")
    return contents


def previous(path: Path) -> Path:
    """Return where the checkpoint before this one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def first(path: Path) -> Path:
    """Return the path of the newest checkpoint, given that or the one before: block files are named after it."""
    return path.with_name(path.stem.removesuffix(".previous") + path.suffix)


def plain(leaf: Tensor | np.ndarray) -> Tensor:
    """Return a contiguous tensor on the CPU; not a copy, where it is one already."""
    if isinstance(leaf, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(leaf))
    return leaf.detach().contiguous().cpu()


def as_bytes(tensor: Tensor) -> np.ndarray:
    """Return the bytes of a contiguous tensor on the CPU, without a copy."""
    return tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.zeros(0, np.uint8)


def _length(shape: list[int], dtype: torch.dtype) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
