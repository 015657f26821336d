"""The checkpoints of a run: each appends what is new since the one before, which is kept beside it."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.checkpoints.blocks import Appending, BlockFiles
from cl_engine.checkpoints.file import Contents, as_bytes, flat, load, nested, plain, previous, read
from cl_engine.core.bank import Bank
from cl_engine.core.files import replace
from cl_engine.errors import MayNotBeRead, UsageError

LOG = logging.getLogger("cl_engine")
MIDWAY = "midway.safetensors"
LARGE = 2**16  # bytes from which a bank's rows, and all tensors that do not change, are worth a place of their own
SMALL = 2**12  # bytes below which nobody asks whether a tensor has changed
SLACK = 2**20  # bytes of block files that may lie idle before it is asked whether they are too many
PIECE = 2**23  # bytes of rows that are copied at a time


@dataclass
class Known:
    """Rows of a bank that are in block files: their stamps ``[n]``, and where they are, ``[n, 4]`` as in `Contents`.

    >>> Known({"dtype": "float32"}).stamps.shape
    (0,)
    """

    kind: dict[str, Any]
    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    index: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.int64))


@dataclass
class Held:
    """The rows and large tensors that a store knows to be in the block files.

    >>> Held().rows
    {}
    """

    rows: dict[str, Known] = field(default_factory=dict)
    blocks: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)


class Store:
    """Saves a run's state to one path repeatedly, at the cost of what has changed.

    Small things stand in ``checkpoint.safetensors`` itself, which is replaced as a whole. Rows of large banks, and large
    tensors found unchanged at the second save, are appended to a block file (``checkpoint.1.blocks``), where later
    checkpoints find them. Block files of which more than half lies idle are written anew. The checkpoint before the newest
    stays as ``checkpoint.previous.safetensors``, whole with its blocks, for the case that the newest is damaged.

    >>> store = Store(Path("checkpoint.safetensors"))
    >>> _ = store.save({"skills": torch.ones(1, 2), "seen": 3})
    >>> store.load()["seen"]
    3

    Attributes:
        path: the newest checkpoint.
        previous: the one before.
        damaged: why `load` went back to the one before; empty if it did not.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.previous = path, previous(path)
        self.damaged = ""
        self._files = BlockFiles(path)
        self._held = Held()
        self._ours = False  # whether the files on disk are of this run, the newest whole
        self._number = 0

    def exists(self) -> bool:
        """Return whether there is anything to load."""
        return self.path.exists() or self.previous.exists()

    def save(self, state: Mapping[str, Any]) -> int:
        """Write a nested dict of tensors, arrays, banks, numbers, strings and lists of them; return the bytes written.

        After a crash at any moment `load` returns this state or the one saved before. If it raises, nothing on disk that
        was saved is lost.
        """
        if not self._number:
            self._begin()
        found = flat(state)
        large = {
            name: plain(leaf) for name, leaf in found.items() if not isinstance(leaf, Bank) and _bytes(leaf) >= SMALL
        }
        digests = {name: _digest(tensor) for name, tensor in large.items()}
        worth = self._worth_appending(found, digests)
        if not worth:
            self._number += 1
        with Appending(self._files.path(self._number)) as out:
            contents, held = self._stored({**found, **large}, digests, self._held if worth else Held(), out)
        contents.arrays += [name for name in large if isinstance(found[name], np.ndarray)]
        part = self.path.with_name(self.path.name + ".part")
        contents.write(part)
        replace(part, self.path, keep=self.previous if self._ours else None)
        self._held, self._ours = held, True
        self._sweep(contents.numbers)
        return out.written + self.path.stat().st_size

    def load(self, device: torch.device | None = None) -> dict[str, Any] | None:
        """Return the newest state that is whole, None if nothing was saved; `damaged` says why it is not the newest.

        Raises:
            UsageError: if what is there is damaged, the checkpoint before too, or of another version.
        """
        why: list[str] = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                contents = read(path)
                found = contents.leaves(path, device)
            except MayNotBeRead:  # it may be whole: one does not go back behind it
                raise
            except UsageError as error:
                why.append(str(error))
                continue
            self.damaged = "".join(why)
            self._remember(contents, found)
            self._number = max(self._files.numbers(), default=0) or 1
            self._ours = path == self.path
            return nested(found)
        if why:
            raise UsageError("; and ".join(why))
        return None

    def keep_newest_only(self) -> None:
        """Remove the checkpoint before the newest, and what it alone needed: the run is finished."""
        if self._ours:
            self.previous.unlink(missing_ok=True)
            self._sweep(read(self.path).numbers)

    def clear(self) -> list[Path]:
        """Remove all there is; return which files."""
        found = self.files()
        for path in reversed(found):
            path.unlink()
        self.path.with_name(self.path.name + ".part").unlink(missing_ok=True)
        return found

    def files(self) -> list[Path]:
        """Return the files there are, block files before the checkpoints that need them, the newest checkpoint last."""
        checkpoints = [path for path in (self.previous, self.path) if path.exists()]
        return [*map(self._files.path, self._files.numbers()), *checkpoints]

    def _begin(self) -> None:
        """Start beside what another run may have left: its newest checkpoint stays until there is one of this run."""
        self.previous.unlink(missing_ok=True)
        self._number = max(self._files.numbers(), default=0) + 1

    def _worth_appending(self, found: Mapping[str, Any], digests: Mapping[str, bytes]) -> bool:
        """Return whether block files would hold more of this state than of what lies idle."""
        carried = every = 0
        numbers = {self._number}
        for name, known in self._held.rows.items():
            bank = found.get(name)
            if isinstance(bank, Bank) and len(bank):
                kept = _unchanged(bank, known)
                numbers |= set(np.unique(known.index[: len(bank)][kept[: len(known.index)], 1]).tolist())
                every, carried = every + _bytes(bank), carried + _bytes(bank) // len(bank) * int(kept.sum())
        for name, (digest, block) in self._held.blocks.items():
            if digests.get(name) == digest:
                numbers.add(block["file"])
                every, carried = every + _bytes(found[name]), carried + _bytes(found[name])
        return sum(map(self._files.size, numbers)) - carried <= every + SLACK

    def _stored(
        self, found: Mapping[str, Any], digests: dict[str, bytes], held: Held, out: Appending
    ) -> tuple[Contents, Held]:
        """Append what is new; return the contents of the checkpoint, and what is known afterwards."""
        contents, after = Contents(order=list(found)), Held(digests=digests)
        settled = {name for name, digest in digests.items() if self._held.digests.get(name) == digest}
        if sum(_bytes(found[name]) for name in settled) < LARGE:
            settled = set()
        for name, leaf in found.items():
            if isinstance(leaf, Bank) and _bytes(leaf) >= LARGE:
                after.rows[name] = known = self._rows(leaf, held.rows.get(name), out)
                contents.tensors[name], contents.rows[name] = torch.from_numpy(known.index), known.kind
            elif name in settled:
                digest, block = held.blocks.get(name, (b"", {}))
                if digest != digests[name]:
                    content = as_bytes(leaf)
                    place = {"file": self._number, "at": out.write(content), "crc32": zlib.crc32(content.data)}
                    block = {**_kind(leaf.dtype, leaf.shape), **place}
                after.blocks[name], contents.blocks[name] = (digests[name], block), block
            else:
                contents.add(name, leaf)
        return contents, after

    def _rows(self, bank: Bank, known: Known | None, out: Appending) -> Known:
        """Append the rows that are new; return where all are."""
        kind = _kind(bank.rows.dtype, (len(bank.rows), *bank.rows.shape[2:]))
        kept = _unchanged(bank, known)
        index, length = np.zeros((len(bank), 4), np.int64), _bytes(bank) // len(bank)
        if known is not None:
            index[kept] = known.index[: len(bank)][kept[: len(known.index)]]
        index[:, 0] = bank.written
        for rows, piece in _pieces(bank, np.flatnonzero(~kept), length):
            begin = out.write(piece)
            for place, row in enumerate(rows.tolist()):
                crc32 = zlib.crc32(piece[place * length : (place + 1) * length].data)
                index[row, 1:] = self._number, begin + place * length, crc32
        return Known(kind, bank.stamps, index)

    def _remember(self, contents: Contents, found: Mapping[str, Any]) -> None:
        """Take what was loaded for what is known."""
        for name, kind in contents.rows.items():
            self._held.rows[name] = Known(kind, found[name].stamps, contents.tensors[name].numpy())
        large = {name: leaf for name, leaf in found.items() if not isinstance(leaf, Bank) and _bytes(leaf) >= SMALL}
        self._held.digests = {name: _digest(plain(leaf)) for name, leaf in large.items()}
        for name, block in contents.blocks.items():
            self._held.blocks[name] = (self._held.digests[name], block)

    def _sweep(self, needed: set[int]) -> None:
        """Remove block files that neither checkpoint needs."""
        if set(self._files.numbers()) <= needed:
            return
        try:
            needed = needed | (read(self.previous).numbers if self.previous.exists() else set())
        except UsageError:
            return  # what it needs cannot be told: nothing is removed until it is replaced
        self._files.keep_only(needed)


def _unchanged(bank: Bank, known: Known | None) -> np.ndarray:
    """Return for each row of a bank whether it is the one known."""
    same = np.zeros(len(bank), bool)
    if known is not None:
        n = min(len(bank), len(known.stamps))
        same[:n] = bank.stamps[:n] == known.stamps[:n]
    return same


def _pieces(bank: Bank, rows: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows by their numbers with their bytes, one row after the other, a bounded number at a time."""
    most = max(1, PIECE // length)
    for begin in range(0, len(rows), most):
        some = rows[begin : begin + most]
        picked = bank.rows.index_select(1, torch.from_numpy(some).to(bank.rows.device))
        yield some, as_bytes(picked.transpose(0, 1).contiguous().cpu())


def _kind(dtype: torch.dtype, shape: Sequence[int]) -> dict[str, Any]:
    return {"dtype": str(dtype).removeprefix("torch."), "shape": list(shape)}


def _bytes(leaf: Any) -> int:
    """Return the bytes of a tensor, an array or the rows of a bank; 0 for all else, which is small."""
    if isinstance(leaf, np.ndarray):
        return int(leaf.nbytes)
    tensor = leaf.rows if isinstance(leaf, Bank) else leaf
    return tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0


def _digest(tensor: Tensor) -> bytes:
    """Return what stands for type, shape and content of a tensor."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(as_bytes(tensor).data)
    return digest.digest()


def saved(store: Store, device: torch.device | None) -> dict[str, Any] | None:
    """Return what a run goes on from, None if nothing was saved: the checkpoint, and what was saved since, as ``midway``.

    What is damaged of the second, or of another experience, is left out: the experience is then learned from its start.

    Raises:
        UsageError: if the checkpoint is damaged, and the one before too.
    """
    found, beside = store.load(device), store.path.with_name(MIDWAY)
    if found is not None and "place" in found:  # its name until version 0.1
        found["cursor"] = found.pop("place")
    if found is not None and beside.exists():
        try:
            midway = load(beside, device)
        except UsageError as error:
            LOG.warning("%s; the experience that was being learned is begun anew", error)
        else:
            found["midway"] = midway if midway.get("learning") == found["step"] + 1 else None
    return found
