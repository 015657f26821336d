"""Arrays that stay in their logs until they are asked for, for xarray; no file is held open in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core.indexing import IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

from cl_engine.errors import UsageError
from cl_engine.results.log_file import array, opened, subgroup

Array = np.ndarray


@dataclass(frozen=True)
class Place:
    """The place of an array of one run, and how much of it had been written when the run was opened.

    >>> Place(Path("log.h5"), "1", "accuracy", (3, 3, 2), np.nan).shape
    (3, 3, 2)

    Attributes:
        path: the log.
        run_id: of the run that it was the log of.
        name: the array in the group ``results``.
        shape: its shape then; what has been written since is not read, so that all of a run is of one moment.
        fill: what stands where nothing was measured.
    """

    path: Path
    run_id: str
    name: str
    shape: tuple[int, ...]
    fill: float

    def read(self, wanted: Sequence[Array]) -> Array:
        """Return the block at these positions, along each axis one (that axis is dropped) or an array of them.

        Raises:
            UsageError: if the log of another run has taken its place.
        """
        start = [int(np.min(at)) if np.size(at) else 0 for at in wanted]
        stop = [int(np.max(at)) + 1 if np.size(at) else 0 for at in wanted]
        with opened(self.path) as file:
            if file.attrs.get("run_id") != self.run_id:
                raise UsageError(
                    f"{self.path} was replaced by the log of another run since it was opened: open it again"
                )
            block = array(subgroup(file, "results"), self.name, tuple(map(slice, start, stop)))
        # a run that was stopped and taken up again may for a moment have fewer rows than before
        lost = [(0, b - a - n) for a, b, n in zip(start, stop, block.shape, strict=True)]
        if any(after for _, after in lost):
            block = np.pad(block, lost, constant_values=np.asarray(self.fill).astype(block.dtype))
        for axis in reversed(range(len(wanted))):
            at = wanted[axis] - start[axis]
            if not np.array_equal(at, np.arange(block.shape[axis])) or not np.ndim(at):
                block = np.take(block, at, axis=axis)
        return np.asarray(block)


class OneRun(BackendArray):
    """An array of one run; once read as a whole, it is kept.

    >>> OneRun(Place(Path("log.h5"), "1", "accuracy", (3, 3, 2), np.nan), np.dtype("f4")).shape
    (3, 3, 2)
    """

    def __init__(self, place: Place, dtype: np.dtype[Any]) -> None:
        self.place, self.shape, self.dtype = place, place.shape, dtype
        self.held: Array | None = None

    def __getitem__(self, key: Any) -> Any:
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

    def _read(self, index: tuple[Any, ...]) -> Array:
        wanted = positions(index, self.shape)
        if self.held is None and all(np.size(at) == n for at, n in zip(wanted, self.shape, strict=True)):
            self.held = self.place.read([np.arange(n) for n in self.shape])
        if self.held is None:
            return self.place.read(wanted)
        found = self.held
        for axis in reversed(range(len(wanted))):
            found = found[(slice(None),) * axis + (index[axis],)]
        return found


class ManyRuns(BackendArray):
    """The same array of many runs, one after the other, each filled up to the size of the largest; nothing is kept.

    >>> places = [Place(Path("log.h5"), "1", "accuracy", (3, 3, 2), np.nan)]
    >>> ManyRuns(places, (1, 3, 3, 2), np.dtype("f4"), None).shape
    (1, 1, 3, 3, 2)

    Args:
        places: the array in each run.
        shape: that of the largest run, with all seeds of all runs.
        columns: for each run the place of each of its seeds, where an axis is that of seeds; else None.
        axis: which axis of a run that is.
    """

    def __init__(
        self,
        places: Sequence[Place],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        columns: Sequence[Sequence[int]] | None,
        axis: int = -1,
    ) -> None:
        self.places, self.shape, self.dtype, self.columns = places, (len(places), *shape), dtype, columns
        self.axis = axis

    def __getitem__(self, key: Any) -> Any:
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

    def _read(self, index: tuple[Any, ...]) -> Array:
        wanted = positions(index, self.shape)
        runs, inner = np.atleast_1d(wanted[0]), [np.atleast_1d(at) for at in wanted[1:]]
        block = np.full((len(runs), *map(len, inner)), self.places[0].fill if self.places else 0, self.dtype)
        for k, run in enumerate(runs):
            self.fill(block[k], int(run), inner)
        return block[tuple(slice(None) if np.ndim(at) else 0 for at in wanted)]

    def fill(self, block: Array, run: int, inner: Sequence[Array]) -> None:
        """Put what the run has into its part of a block."""
        place = self.places[run]
        own = [
            np.arange(n) for n in self.shape[1:]
        ]  # for each position in the block's frame, that in the run; −1: none
        own = [np.where(at < n, at, -1) for at, n in zip(own, place.shape, strict=True)]
        if self.columns is not None:
            own[self.axis] = np.full(self.shape[1:][self.axis], -1)
            own[self.axis][list(self.columns[run])] = np.arange(len(self.columns[run]))
        there = [at[wanted] for at, wanted in zip(own, inner, strict=True)]
        held = [np.flatnonzero(at >= 0) for at in there]
        if all(map(len, held)):
            block[np.ix_(*held)] = place.read([at[at >= 0] for at in there])


class OfSeeds(BackendArray):
    """An array of runs that have some seeds each, as one with the seeds of all; once read as a whole, it is kept.

    >>> places = [Place(Path(name), name, "accuracy", (3, 3, 1), np.nan) for name in ("a.h5", "b.h5")]
    >>> OfSeeds(ManyRuns(places, (3, 3, 2), np.dtype("f4"), [[0], [1]])).shape
    (3, 3, 2)
    """

    def __init__(self, runs: ManyRuns) -> None:
        self.runs, self.shape, self.dtype = runs, runs.shape[1:], runs.dtype
        self.held: Array | None = None

    def __getitem__(self, key: Any) -> Any:
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

    def _read(self, index: tuple[Any, ...]) -> Array:
        wanted = positions(index, self.shape)
        block = self.held
        if block is None:
            inner = [np.atleast_1d(at) for at in wanted]
            block = np.full(tuple(map(len, inner)), self.runs.places[0].fill, self.dtype)
            for run in range(len(self.runs.places)):
                self.runs.fill(block, run, inner)
            if block.shape == self.shape and all(np.array_equal(at, np.arange(len(at))) for at in inner):
                self.held = block
            return block[tuple(slice(None) if np.ndim(at) else 0 for at in wanted)]
        for axis in reversed(range(len(wanted))):
            block = block[(slice(None),) * axis + (index[axis],)]
        return block


def lazily(source: OneRun | ManyRuns | OfSeeds) -> LazilyIndexedArray:
    """Return the array as xarray takes it: indexing it reads nothing until values are asked for."""
    return LazilyIndexedArray(source)


def positions(index: Sequence[Any], shape: Sequence[int]) -> list[Array]:
    """Return what an index means along each axis: a position, or an array of them."""
    return [np.arange(n)[at] for at, n in zip(index, shape, strict=True)]
