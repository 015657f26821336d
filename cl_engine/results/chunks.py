"""The chunks of an array in a foreign file: none may be more than it says once it is unpacked, and texts are counted.

gzip packs zeros a thousand times over, and HDF5 makes room for whatever comes out of a chunk. A text is stored once and
can be referred to a million times.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

LARGEST = 32 * 2**20  # bytes of a chunk, unpacked
TRUSTED = 128 * 2**10  # bytes of a packed chunk that cannot become more than a few hundred MB
REFERENCE = 16  # bytes by which a text is referred to: its length (4), where it is (8 + 4)
MEMBERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)


def fault(dataset: h5py.h5d.DatasetID) -> str:
    """Return what is wrong with the chunks of an array; empty: nothing, or it has none."""
    made = dataset.get_create_plist()
    if made.get_layout() != h5py.h5d.CHUNKED:
        return ""
    kind: Any = dataset.get_type()
    texts = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
    size = int(np.prod(made.get_chunk())) * (REFERENCE if texts else kind.get_size())
    if size > LARGEST:
        return f"has chunks of {size} bytes; at most {LARGEST} are allowed"
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


def letters(dataset: h5py.h5d.DatasetID) -> Iterator[int]:
    """Yield how many bytes the texts of each chunk have, from what refers to them alone; nothing for arrays without chunks."""
    made = dataset.get_create_plist()
    if made.get_layout() != h5py.h5d.CHUNKED or not dataset.get_type().is_variable_str():
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
