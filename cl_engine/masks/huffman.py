"""Huffman codes of many small symbols, written and read by NumPy without a loop over symbols."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

BLOCK = 1 << 16  # symbols that are read at once, which bounds the room that reading takes
WINDOW = 64


def encode(symbols: Numbers, kinds: int) -> Bytes:
    """Return symbols ``[N]`` below ``kinds`` as bytes, by a canonical Huffman code of their own (Huffman 1952).

    First come the code lengths of all kinds, a byte each, then the lengths of the blocks, four bytes each, then the blocks.

    >>> decode(encode(np.array([2, 0, 2, 2, 3]), 4), 4, 5)
    array([2, 0, 2, 2, 3])
    """
    lengths = code_lengths(np.bincount(symbols, minlength=kinds))
    codes, _ = _canonical(lengths)
    blocks = [
        _written(codes[part], lengths[part]) for part in (symbols[at : at + BLOCK] for at in _starts(len(symbols)))
    ]
    sizes = np.array([len(block) for block in blocks], dtype="<u4").view(np.uint8)
    return np.concatenate([lengths.astype(np.uint8), sizes, *blocks])


def decode(data: Bytes, kinds: int, count: int) -> Numbers:
    """Return the ``count`` symbols that `encode` wrote; what follows them in ``data`` is not read."""
    lengths = data[:kinds].astype(np.int64)
    codes, order = _canonical(lengths)
    firsts = codes[order] << (WINDOW - lengths[order]).astype(np.uint64)
    starts = _starts(count)
    at = kinds + 4 * len(starts)
    sizes = data[kinds:at].copy().view("<u4")
    found = []
    for start, size in zip(starts, sizes.tolist(), strict=True):
        found.append(_read(data[at : at + size], firsts, order, lengths, min(BLOCK, count - start)))
        at += size
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def code_lengths(counts: Numbers) -> Numbers:
    """Return how many bits the code of each symbol has, given how often it occurs; 0 where it does not.

    >>> code_lengths(np.array([5, 1, 0, 1])).tolist()
    [1, 2, 0, 2]
    """
    lengths = np.zeros(len(counts), dtype=np.int64)
    heap = [(int(counts[symbol]), int(symbol), [int(symbol)]) for symbol in np.flatnonzero(counts)]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (many, tie, one), (more, _, other) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[one + other] += 1
        heapq.heappush(heap, (many + more, tie, one + other))
    return lengths


def _starts(count: int) -> range:
    return range(0, count, BLOCK)


def _canonical(lengths: Numbers) -> tuple[npt.NDArray[np.uint64], Numbers]:
    """Return the code of each symbol, and the symbols that have one in the order of their codes, the shortest first."""
    codes = np.zeros(len(lengths), dtype=np.uint64)
    order = np.array(sorted(np.flatnonzero(lengths), key=lambda symbol: (lengths[symbol], symbol)), dtype=np.int64)
    code, before = 0, 0
    for symbol in order.tolist():
        code <<= int(lengths[symbol]) - before
        codes[symbol], before = code, int(lengths[symbol])
        code += 1
    return codes, order


def _written(codes: npt.NDArray[np.uint64], lengths: Numbers) -> Bytes:
    """Return codes one after the other, eight bits to a byte."""
    ends = lengths.cumsum()
    bits = np.zeros(int(ends[-1]), dtype=np.uint8)
    for bit in range(int(lengths.max())):
        has = lengths > bit
        places = ends[has] - lengths[has] + bit
        bits[places] = (codes[has] >> (lengths[has] - 1 - bit).astype(np.uint64)) & np.uint64(1)
    return np.packbits(bits)


def _read(data: Bytes, firsts: npt.NDArray[np.uint64], order: Numbers, lengths: Numbers, count: int) -> Numbers:
    """Return the symbols of a block: what a code that began at each bit would be is told first, then where they do begin."""
    padded = np.concatenate([data, np.zeros(8, dtype=np.uint8)]).astype(np.uint64)
    window = np.zeros(len(data), dtype=np.uint64)
    for byte in range(8):
        window |= padded[byte : byte + len(data)] << np.uint64(56 - 8 * byte)
    places = np.arange(8 * len(data))
    seen = window[places >> 3] << (places & 7).astype(np.uint64)
    symbols = order[np.searchsorted(firsts, seen, side="right") - 1]
    jump = np.minimum(places + lengths[symbols], len(places) - 1)
    begins = np.zeros(1, dtype=np.int64)
    while len(begins) < count:  # jump goes as many symbols further as are known
        begins = np.concatenate([begins, jump[begins]])
        jump = jump[jump]
    found: Numbers = symbols[begins[:count]]
    return found
