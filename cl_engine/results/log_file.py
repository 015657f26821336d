"""Logs found and opened, each checked to be one of ours before it is read."""

from __future__ import annotations

import glob
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from cl_engine.errors import MayNotBeRead, UsageError
from cl_engine.results.audit import SPARSE, SUSPECT, audit, member, text

FORMAT, MAJOR, LOG_NAME = "cl-engine-run", 2, "log.h5"
MEMORY_RULE = "memory_counts"  # the attribute that says what counts as memory; without it, all of the state
NEEDED = ("run_id", "strategy", "scenario", "status")
MOST = 1000  # attributes of a log
ATTEMPTS = 3  # on a shared disk a file may be replaced in the middle of being opened


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a log for reading, without a lock; the writer publishes by rename, so it is never in the way.

    Raises:
        UsageError: if there is no file, it is not HDF5, or a part of it is missing or damaged, also while it is read.
    """
    try:
        there = path.is_file()
    except PermissionError as error:
        raise MayNotBeRead(path, error) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if not there:
        raise UsageError(f"there is no log at {path}: give a run's folder or its {LOG_NAME}")
    file = _open(path)
    try:
        with file:
            yield file
    except KeyError as error:
        raise UsageError(f"{path} is not a whole log: {_text(error)}") from None
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {_text(error)}") from None


def _open(path: Path) -> h5py.File:
    locking: bool | None = False
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return h5py.File(path, "r", locking=locking)
        except PermissionError as error:
            raise MayNotBeRead(path, error) from None
        except (OSError, RuntimeError) as error:
            if "flag values don't match" in str(error):  # somebody in this process has it open, with a lock
                locking = None
                continue
            if attempt == ATTEMPTS or "signature not found" in str(error):
                raise UsageError(f"{path} cannot be read as HDF5: {_text(error)}") from None
            time.sleep(0.05 * attempt)
    raise UsageError(f"{path} is open in this process in a way that keeps it from being read")


def attributes_of(file: h5py.File, names: Sequence[str] | None = None) -> dict[str, str]:
    """Return the texts at the root of a log, all of them or those of the names given.

    Raises:
        UsageError: if the file is not the log of a run, or of a newer major version than this program reads.
    """
    found, attributes = {}, file.attrs
    if len(attributes) > MOST:
        raise UsageError(f"{file.filename} has {len(attributes)} attributes: it is no log of this program")
    for name in attributes if names is None else ("format", "format_version", *names):
        value = text(attributes, name) if name in attributes else None
        if value is not None:
            found[name] = value
    where, version = file.filename, found.get("format_version", "")
    if found.get("format") != FORMAT:
        raise UsageError(f"{where} is not the log of a cl-engine run: its format is {found.get('format')!r}")
    major = version.split(".")[0]
    if not major.isdecimal() or int(major) > MAJOR:
        raise UsageError(f"{where} has format version {version!r}; this program reads up to {MAJOR}: update it")
    lacking = [name for name in NEEDED if name not in found]
    if lacking:
        raise UsageError(f"{where} is not a whole log: the attribute {lacking[0]} is missing")
    return found


def array(group: h5py.Group, name: str, index: Any = ()) -> Any:
    """Return an array of a group as NumPy's, once it is known to be plain; texts are ``str``.

    Args:
        index: slices, one for each of the first axes; or a number, in the place of the first.

    Raises:
        UsageError: if it is none, or what is asked for is more than this machine's memory.
    """
    data = member(group, name)
    if not isinstance(data, h5py.Dataset):
        raise UsageError(f"{group.file.filename}: {data.name} is a group, where an array was expected")
    _check_room(data, index)
    return data.asstr(errors="replace")[index] if h5py.check_string_dtype(data.dtype) else data[index]


def _check_room(data: h5py.Dataset, index: Any) -> None:
    """Refuse to read more than memory holds: R of very many tasks, whose cells are hardly ever filled, can be that."""
    if data.nbytes <= SUSPECT or not isinstance(index, tuple):
        return
    import psutil  # .02 s to import: for what is large alone

    shape = [len(range(*one.indices(size))) for one, size in zip(index, data.shape, strict=False)]
    wanted = math.prod([*shape, *data.shape[len(shape) :]]) * data.dtype.itemsize
    most = psutil.virtual_memory().total
    if wanted > most:
        raise UsageError(
            f"{data.file.filename}: {data.name} is {wanted / 1e9:,.0f} GB, where this machine's memory is {most / 1e9:,.0f} GB: "
            "ask for some of its rows, as run.results.score[-1]"
        )


def subgroup(file: h5py.File, name: str) -> h5py.Group:
    """Return a group at the root of a log."""
    found = member(file, name)
    if not isinstance(found, h5py.Group):
        raise UsageError(f"{file.filename}: /{name} is an array, where a group was expected")
    return found


def read_whole(path: Path) -> None:
    """Read all that a log holds, so that what its checksums and its structure can tell of damage is told.

    Raises:
        UsageError: if a part of it is missing or damaged.
    """
    with opened(path) as file:
        attributes_of(file)
        audit(file)
        waiting = [subgroup(file, name) for name in file]
        while waiting:
            group = waiting.pop()
            for name in group:
                found = member(group, name)
                if isinstance(found, h5py.Group):
                    waiting.append(found)
                elif name in SPARSE and found.nbytes > SUSPECT and found.chunks:
                    _read_chunks(found)
                else:
                    array(group, name)


def _read_chunks(data: h5py.Dataset) -> None:
    """Read the chunks that were ever written, one after the other."""
    found: list[tuple[int, ...]] = []
    data.id.chunk_iter(lambda info: found.append(info.chunk_offset))
    for start in found:
        data[tuple(slice(at, at + size) for at, size in zip(start, data.chunks, strict=True))]


def logs_in(*places: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the logs in places, each once, in order: a log, a run's folder, a folder of runs, or a pattern with ``*``.

    Raises:
        UsageError: if there is none in one of them.
    """
    found, without = searched(*places)
    if without:
        raise UsageError(without[0])
    return found


def searched(*places: str | Path | Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Return what `logs_in` returns, and a sentence for each place that has no log.

    Of a folder that may not be looked into, the log that could be in it is returned: who opens it hears why it cannot be read.
    """
    found: dict[Path, None] = {}
    without = []
    for place in places:
        if not isinstance(place, str | Path):
            more, none = searched(*place)
            found |= dict.fromkeys(more)
            without += none
            continue
        try:
            new = list(_in(str(place)))
        except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a link that goes around
            without.append(f"{place} cannot be looked into: {error}")
            continue
        if not new:
            without.append(
                f"there is no log at {place}: give a run's folder, its {LOG_NAME}, or a folder or pattern of runs"
            )
        found |= dict.fromkeys(new)
    return list(found), without


def _in(place: str) -> Iterator[Path]:
    path = Path(place)
    if path.is_dir():
        yield from [path / LOG_NAME] if (path / LOG_NAME).is_file() else _below(path)
    elif path.is_file():
        yield path
    elif glob.has_magic(place):
        seen = set()
        for match in sorted(glob.iglob(place, recursive=True), key=len):  # noqa: PTH207  # a pattern may begin at the root
            path = Path(match)
            real = path.resolve()
            if real not in seen:  # ** goes around where a folder is linked within itself
                seen.add(real)
                yield from [path] if path.is_file() else _below(path)


def _below(folder: Path) -> list[Path]:
    """Return the logs below a folder, those of folders that may not be looked into among them.

    A bin, or what else is hidden in the folder, is passed over.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=lambda error: found.append(Path(error.filename) / LOG_NAME)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if LOG_NAME in files or LOG_NAME in folders:
            found.append(Path(place) / LOG_NAME)
    return sorted(found)


def fault(path: Path, error: Exception) -> str:
    """Return a sentence on an error that was met in a log: its own, or that the log is odd."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path} cannot be read: {error.strerror}"
    return str(error) if isinstance(error, UsageError) else f"{path} is odd: {type(error).__name__}: {error}"


def _text(error: BaseException) -> str:
    return str(error).strip("'\"").encode("ascii", "backslashreplace").decode()
