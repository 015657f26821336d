"""Codes of different lengths in pages that do not change when a code is added.

A part of a state: ``{"pages": [S, n, PAGE], "tail": [S, fewer than PAGE], "ends": [1, codes, 1]}``. All bytes but the last few
stand in full pages, rows of a bank, so that saving one more code does not cost the writing of all. Of the seeds' codes
the shorter ones are filled up to the length of the longest, which is counted like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State

PAGE = 4096  # bytes


def no_codes(seeds: int, device: torch.device) -> State:
    """Return the part of a state that holds codes, and holds none yet."""
    return {
        "pages": Bank.empty(seeds, (PAGE,), torch.uint8, device),
        "tail": torch.zeros(seeds, 0, dtype=torch.uint8, device=device),
        "ends": Bank.empty(1, (1,), torch.int64, device),
    }


def put_code(part: State, row: int, codes: Sequence[bytes]) -> None:
    """Write one row (a code a seed) over row ``row``, or append it."""
    pages, ends = part["pages"], part["ends"]
    block = np.zeros((len(codes), max(map(len, codes))), dtype=np.uint8)
    for s, code in enumerate(codes):
        block[s, : len(code)] = np.frombuffer(code, dtype=np.uint8)
    new = torch.from_numpy(block).to(part["tail"].device)
    begin, end = _end(ends, row - 1), _end(ends, min(row, len(ends) - 1))
    same = begin // PAGE  # pages
    after = _bytes(part, end, _end(ends, len(ends) - 1))
    rest = torch.cat([_bytes(part, same * PAGE, begin), new, after], dim=1)
    pages.keep_first(same)
    full = rest.shape[1] // PAGE
    for page in range(full):
        pages.put(same + page, rest[:, page * PAGE : (page + 1) * PAGE])
    part["tail"] = rest[:, full * PAGE :].clone()
    longer = begin + new.shape[1] - end
    for later in range(row + 1, len(ends)):
        ends.put(later, ends[later] + longer)
    ends.put(row, torch.full((1, 1), begin + new.shape[1], device=part["tail"].device))


def code_of(part: State, row: int) -> list[bytes]:
    """Return the codes of a row, one a seed."""
    ends: Bank = part["ends"]
    return [bytes(code) for code in _bytes(part, _end(ends, row - 1), _end(ends, row)).cpu().numpy()]


def _end(ends: Bank, row: int) -> int:
    return int(ends.numbers(row)[0]) if row >= 0 else 0


def _bytes(part: State, begin: int, end: int) -> Tensor:
    """Return the bytes from one place to another, ``[S, end - begin]``."""
    full = PAGE * len(part["pages"])
    paged = part["pages"].rows.flatten(1)[:, begin:end]
    return torch.cat([paged, part["tail"][:, max(0, begin - full) : max(0, end - full)]], dim=1)
