"""The audit of a foreign log before it is read: HDF5 can point outside of itself, load code, and lie about sizes.

Keras had to learn this (CVE-2026-1669, CVE-2026-0897): a file may name other files whose bytes are then returned as
its data, ask for a filter that HDF5 looks for as a shared library, or declare terabytes in a kilobyte. gzip packs zeros a
thousand times over, and HDF5 makes room for whatever comes out of a chunk. A text is stored once and can be referred to a
million times.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from cl_engine.errors import UsageError

FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
TYPES = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING}
DEEPEST, MOST = 4, 10_000  # groups within groups; objects
LONGEST = 64 * 2**10  # bytes of an attribute
# arrays with rows that were never written are large and take no room: only far beyond that is it a lie
LARGEST, SUSPECT, RATIO = 64 * 2**30, 256 * 2**20, 10_000
# R has cells for what was never tested, thousands to one in a long stream: it is read in parts, and `log_file.array` says no to
# more than there is memory for
SPARSE = ("n_correct", "n_total", "accuracy", "score", "sums")
LARGEST_CHUNK = 32 * 2**20  # bytes of a chunk, unpacked
TRUSTED = 128 * 2**10  # bytes of a packed chunk that cannot become more than a few hundred MB
REFERENCE = 16  # bytes by which a text is referred to: its length (4), where it is (8 + 4)
MEMBERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)


def audit(file: h5py.File) -> None:
    """Refuse a file that holds anything but groups and plain arrays of its own.

    Raises:
        UsageError: naming the first link to elsewhere, external or virtual storage, filter other than gzip, shuffle and
            fletcher32, type other than integer, float and string, group linked twice, or size beyond belief, also of what
            is unpacked.
    """
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[h5py.Group, int]] = [(file, 0)]
    count = 0
    while waiting:
        group, depth = waiting.pop()
        info = h5py.h5o.get_info(group.id)
        if (info.fileno, info.addr) in seen or depth > DEEPEST:
            raise UsageError(
                f"{file.filename}: the group {group.name} is linked within itself or too deep to be of a log"
            )
        seen.add((info.fileno, info.addr))
        for name in group:
            count += 1
            if count > MOST:
                raise UsageError(f"{file.filename} holds more than {MOST} objects: it is no log of this program")
            found = member(group, name)
            if isinstance(found, h5py.Group):
                waiting.append((found, depth + 1))


def member(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group:
    """Return what a group holds by this name (no path), once it is known to be plain and inside the file.

    Raises:
        UsageError: as `audit`.
        KeyError: if it holds nothing by this name.
    """
    encoded = name.encode()
    if group.id.links.get_info(encoded).type != h5py.h5l.TYPE_HARD:
        raise _refused(group, name, "is a link to elsewhere")
    found = h5py.h5o.open(group.id, encoded)  # half the time of group[name]
    if isinstance(found, h5py.h5d.DatasetID):
        made, kind = found.get_create_plist(), found.get_type()
        _checked(group, name, found, made, kind)
        if kind.get_class() == h5py.h5t.STRING:
            _counted(group, name, found, made, kind)
        return h5py.Dataset(found)
    if isinstance(found, h5py.h5g.GroupID):
        return h5py.Group(found)
    raise _refused(group, name, "is neither a group nor an array")


def _checked(group: h5py.Group, name: str, dataset: h5py.h5d.DatasetID, made: Any, kind: Any) -> None:
    layout = made.get_layout()
    if layout == h5py.h5d.VIRTUAL or (layout == h5py.h5d.CONTIGUOUS and made.get_external_count()):
        raise _refused(group, name, "takes its data from other files")
    filters = {made.get_filter(k)[0] for k in range(made.get_nfilters())}
    if not filters <= FILTERS:
        raise _refused(group, name, f"needs the HDF5 filter {min(filters - FILTERS)}, and only gzip is used in logs")
    if kind.get_class() not in TYPES:
        raise _refused(group, name, "is neither of integers nor of floats nor of strings")
    declared = dataset.get_space().get_simple_extent_npoints() * kind.get_size()
    suspect = declared > SUSPECT and not (name in SPARSE and layout == h5py.h5d.CHUNKED)
    if suspect and (declared > LARGEST or declared > RATIO * max(1, dataset.get_storage_size())):
        raise _refused(group, name, f"declares {declared} bytes and holds {dataset.get_storage_size()}")
    odd = _fault(dataset, made, kind)
    if odd:
        raise _refused(group, name, odd)


def _counted(group: h5py.Group, name: str, dataset: h5py.h5d.DatasetID, made: Any, kind: Any) -> None:
    """Refuse texts that are more than the file: one that is there once and meant many times fills any memory."""
    count, most = dataset.get_space().get_simple_extent_npoints(), group.file.id.get_filesize()
    if made.get_layout() != h5py.h5d.CHUNKED:
        if count > 1 and kind.is_variable_str():
            raise _refused(group, name, "holds several texts and is not stored in chunks, as ours are")
        return
    found = 0
    for letters in _letters(dataset, made, kind):
        found += letters
        if found > most:
            raise _refused(group, name, f"says that its texts are {found} bytes, in a file of {most}")


def text(holder: h5py.AttributeManager, name: str) -> str | None:
    """Return the attribute of this name if it is one text, and not a long one; None otherwise.

    Raises:
        KeyError: if there is none.
    """
    found = holder.get_id(name)
    kind = found.get_type()
    if found.get_space().get_simple_extent_npoints() != 1 or kind.get_class() != h5py.h5t.STRING:
        return None
    if not kind.is_variable_str() and kind.get_size() > LONGEST:
        return None
    value = np.asarray(holder[name]).ravel()[0] if found.shape else holder[name]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _refused(group: h5py.Group, name: str, why: str) -> UsageError:
    where = f"{group.name.rstrip('/')}/{name}".encode("ascii", "backslashreplace").decode()
    return UsageError(f"{group.file.filename} is not to be trusted: {where} {why}")


def _fault(dataset: h5py.h5d.DatasetID, made: Any, kind: Any) -> str:
    """Return what is wrong with the chunks of an array; empty: nothing, or it has none."""
    if made.get_layout() != h5py.h5d.CHUNKED:
        return ""
    texts = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
    size = int(np.prod(made.get_chunk())) * (REFERENCE if texts else kind.get_size())
    if size > LARGEST_CHUNK:
        return f"has chunks of {size} bytes; at most {LARGEST_CHUNK} are allowed"
    order = [MEMBERS.index(made.get_filter(k)[0]) for k in range(made.get_nfilters())]
    if order != sorted(set(order)):
        return "is packed more than once"
    if 1 not in order:
        return ""
    packed: list[int] = []
    dataset.chunk_iter(lambda info: packed.append(info.size))
    for number in np.flatnonzero(np.array(packed) > max(TRUSTED, 0)) if packed else ():
        mask, content = dataset.read_direct_chunk(dataset.get_chunk_info(int(number)).chunk_offset)
        if not mask and len(_unpacked(content, size)) > size:
            return f"has a chunk that unpacks to more than the {size} bytes it says"
    return ""


def _letters(dataset: h5py.h5d.DatasetID, made: Any, kind: Any) -> Iterator[int]:
    """Yield how many bytes the texts of each chunk have, from what refers to them alone; nothing for arrays without chunks."""
    if made.get_layout() != h5py.h5d.CHUNKED or not kind.is_variable_str():
        return
    size = int(np.prod(made.get_chunk())) * REFERENCE
    filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    for number in range(dataset.get_num_chunks()):
        mask, content = dataset.read_direct_chunk(dataset.get_chunk_info(number).chunk_offset)
        if MEMBERS[1] in filters and not mask & (1 << filters.index(MEMBERS[1])):
            content = _unpacked(content, size)
        raw = np.frombuffer(content[:size].ljust(size, b"\0"), np.uint8)
        shuffled = MEMBERS[0] in filters and not mask & (1 << filters.index(MEMBERS[0]))
        rows = raw.reshape(REFERENCE, -1).T if shuffled else raw.reshape(-1, REFERENCE)
        yield int(np.ascontiguousarray(rows[:, :4]).view("<u4").sum(dtype=np.int64))


def _unpacked(content: bytes, size: int) -> bytes:
    """Return what a chunk unpacks to, or the first byte more than it should be."""
    try:
        return zlib.decompressobj().decompress(content, size + 1)
    except zlib.error:
        return b""  # HDF5 will say so
