"""R on validation rows in a log: the group ``results/validation``, which is there where a stream has such rows."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

from cl_engine import events
from cl_engine.data.stream import Stream
from cl_engine.loggers.layout import create_validation
from cl_engine.loggers.matrix import ROWS_AT_ONCE, Matrix
from cl_engine.loggers.tables import VALIDATED, VALIDATION

Row = tuple[int, dict[str, tuple[float, ...]], np.ndarray]  # evaluation, scores, cells as `Matrix` has them


class ValidationMatrix:
    """Collects the rows of R on validation rows between two flushes, each written with the row of R that it stands beside.

    >>> ValidationMatrix(Matrix(seeds=1)).taken()
    {}
    """

    def __init__(self, matrix: Matrix) -> None:
        """Collect cells of as many seeds and sums as ``matrix``."""
        self.matrix = matrix
        self._rows: list[Row] = []
        self.bytes = 0  # of the cells that are not yet in the file

    def scored(self, event: events.ValidationScored) -> None:
        """Take in a row."""
        count, seeds, sums = event.sums.shape
        block = np.full((count, seeds, self.matrix.sums), math.nan)
        block[:, :, :sums] = event.sums
        where = np.stack([np.full(count, event.evaluation), event.task_ids], axis=1)
        cells = np.concatenate([where, event.score, block.reshape(count, -1)], axis=1)
        self._add((event.evaluation, {name: getattr(event, name) for name in VALIDATED}, cells))

    def taken(self) -> dict[str, Any]:
        """Return what was taken in as lists for JSON, and keep it no longer; nothing where there is nothing."""
        rows, self._rows, self.bytes = self._rows, [], 0
        return {VALIDATION: [(number, scores, cells.tolist()) for number, scores, cells in rows]} if rows else {}

    def take_up(self, lists: dict[str, Any]) -> None:
        """Take in again what `taken` returned; older journals have nothing of it."""
        for number, scores, cells in lists.get(VALIDATION, ()):
            self._add((number, scores, np.array(cells, dtype=float)))

    def flush(self, results: h5py.Group, stream: Stream) -> None:
        """Write what was taken in; `Matrix.flush` has made room for its evaluations and tasks."""
        if not self._rows:
            return
        if VALIDATION not in results:
            create_validation(results, stream)
        group = results[VALIDATION]
        for number, scores, _ in self._rows:
            for name in VALIDATED:
                group[name][number] = scores[name]
        for start in range(0, len(self._rows), ROWS_AT_ONCE):
            self.matrix.write_rows(group, np.concatenate([row[2] for row in self._rows[start : start + ROWS_AT_ONCE]]))
        self._rows, self.bytes = [], 0

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        self.bytes += row[2].nbytes
