"""The rows of R as they are measured: what the scores of a run need to remember, and no more.

Holds a few numbers a task and seed (not the matrix), so that the scores of a 5,000-task run cost a few megabytes. The
definitions are those of `metrics`, which computes them from the whole matrix; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_engine.errors import UsageError

Row = np.ndarray
SCORES = ("acc", "bwt", "fwt", "forgetting")


@dataclass(frozen=True, slots=True)
class Measured:
    """The last test of a task: which answers were tested (fingerprint), and how many were right, by seed."""

    fingerprint: int | None
    n_correct: tuple[int, ...]
    n_total: int


class Ledger:
    """Keeps, for each task: when it was first learned, and its accuracy untrained, just before, just after, at best."""

    ARRAYS = ("untrained", "before", "after", "best", "now")

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.step = -1
        self.from_untrained = False
        self.first_learned: list[int] = []
        self.before_at: list[int] = []
        self.measured: dict[int, Measured] = {}
        self.stopped: set[int] = set()  # places of seeds that are measured no longer
        self._table = {name: np.full((0, seeds), np.nan) for name in self.ARRAYS}

    def learned(self, step: int, task_id: int) -> None:
        """Note that the experience at ``step`` has been learned."""
        self._reach(task_id)
        if self.first_learned[task_id] < 0:
            self.first_learned[task_id] = step
            if self.before_at[task_id] != step - 1:  # forward transfer asks for the accuracy just before
                self._table["before"][task_id] = np.nan

    def row(self, step: int) -> int:
        """Open the row of R measured after ``step`` (−1: untrained) and return its number."""
        self.from_untrained |= step < 0
        self.step = step
        self._table["now"][:] = np.nan
        return step + 1 if self.from_untrained else step

    def put(self, task_id: int, n_correct: Sequence[int], n_total: int) -> None:
        """Enter a cell of the open row."""
        self._reach(task_id)
        accuracy = [right / n_total for right in n_correct] if n_total else [np.nan] * self.seeds
        if self.stopped:
            accuracy = [np.nan if k in self.stopped else value for k, value in enumerate(accuracy)]
        table, first = self._table, self.first_learned[task_id]
        table["now"][task_id] = accuracy
        if self.step < 0:
            table["untrained"][task_id] = accuracy
        elif first < 0:
            table["before"][task_id], self.before_at[task_id] = accuracy, self.step
        elif first == self.step:
            table["after"][task_id] = accuracy

    def scores(self) -> dict[str, Row]:
        """Close the open row and return ``{"acc", "bwt", "fwt", "forgetting"}: [S]``; NaN where not defined or measured."""
        table = self._table
        first = np.asarray(self.first_learned, dtype=int)
        met = (first >= 0) & (first <= self.step)
        old = met & (first < self.step)
        late = met & (first > 0)
        result = {
            "acc": _mean(table["now"][met]),
            "bwt": _mean(table["now"][old] - table["after"][old]),
            "fwt": _mean(table["before"][late] - table["untrained"][late]),
            "forgetting": _mean(table["best"][old] - table["now"][old]),
        }
        if self.step >= 0:
            table["best"] = np.fmax(table["best"], table["now"])
        return {name: result[name] for name in SCORES}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the ledger: arrays and lists."""
        return {
            "step": self.step,
            "from_untrained": int(self.from_untrained),
            "stopped": sorted(self.stopped),
            "first_learned": list(self.first_learned),
            "before_at": list(self.before_at),
            "measured": self._measured(),
            **{name: values.copy() for name, values in self._table.items()},
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Ledger:
        """Return the ledger whose `state` this is."""
        ledger = cls(state["now"].shape[1])
        ledger.step, ledger.from_untrained = state["step"], bool(state["from_untrained"])
        ledger.first_learned, ledger.before_at = list(state["first_learned"]), list(state["before_at"])
        ledger.stopped = set(state.get("stopped", ()))
        ledger.measured = {t: Measured(f, tuple(c), n) for t, f, n, *c in np.asarray(state["measured"]).tolist()}
        ledger._table = {name: np.array(state[name]) for name in cls.ARRAYS}
        return ledger

    def _measured(self) -> Row:
        """Return a row of integers a task: the task, fingerprint, rows tested, and right answers by seed."""
        rows = [[task, m.fingerprint, m.n_total, *m.n_correct] for task, m in sorted(self.measured.items())]
        try:
            return np.array(rows, dtype=np.int64).reshape(len(rows), 3 + self.seeds)
        except OverflowError:
            raise UsageError("a fingerprint does not fit into 64 bits: let it be a counter or Python's hash") from None

    def _reach(self, task_id: int) -> None:
        missing = task_id + 1 - len(self.first_learned)
        if missing > 0:
            room = max(missing, len(self.first_learned) // 4)
            self.first_learned += [-1] * room
            self.before_at += [-1] * room
            more = np.full((room, self.seeds), np.nan)
            self._table = {name: np.concatenate([values, more]) for name, values in self._table.items()}


def _mean(rows: Row) -> Row:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan)
