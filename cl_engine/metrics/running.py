"""The running ledger: the few numbers of each task from which the scores of a run follow.

Holds a few numbers a task and seed (not the matrix), so that the scores of a 5,000-task run cost a few megabytes. The
definitions are those of `metrics`, which computes them from the whole matrix; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import SCORES

Row = np.ndarray


class ScoreCache:
    """Keeps the last tests of tasks whose answers have a fingerprint; they hold while it stays the same.

    >>> cache = ScoreCache(seeds=2)
    >>> cache.note(0, 7, [45, 44], 50)
    >>> cache.hold(np.array([0]), [7])
    array([ True])
    """

    def __init__(self, seeds: int, rows: np.ndarray | None = None) -> None:
        """Start from ``rows [n, 3 + S]``: the task, its fingerprint, the rows tested, and the right answers by seed."""
        self._rows = np.full(
            (0, 3 + seeds), -1, dtype=np.int64
        )  # that of a task at its place; its number, −1: not known
        if rows is not None and len(rows):
            self._reach(int(rows[:, 0].max()))
            self._rows[rows[:, 0]] = rows

    @property
    def rows(self) -> np.ndarray:
        """What was last noted of each task, ``[n, 3 + S]``."""
        return self._rows[self._rows[:, 0] >= 0]

    def hold(self, task_ids: np.ndarray, fingerprints: Sequence[int | None]) -> np.ndarray:
        """Return for which tasks the last test had this fingerprint, ``[n]``."""
        there = np.ones(len(task_ids), dtype=bool)
        if None in fingerprints:
            there = np.array([fingerprint is not None for fingerprint in fingerprints], dtype=bool)
        now = _integers([fingerprint or 0 for fingerprint in fingerprints])
        self._reach(int(task_ids.max(initial=-1)))
        rows = self._rows[task_ids, :2]
        holds: np.ndarray = there & (rows[:, 0] >= 0) & (rows[:, 1] == now)
        return holds

    def note(self, task_id: int, fingerprint: int, n_correct: Sequence[int], n_total: int) -> None:
        """Take in a test."""
        self._reach(task_id)
        self._rows[task_id] = _integers([task_id, fingerprint, n_total, *n_correct])

    def counts(self, task_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the right answers ``[n, S]`` and the rows tested ``[n]`` of the last tests of these tasks."""
        rows = self._rows[task_ids]
        return rows[:, 3:], rows[:, 2]

    def _reach(self, task_id: int) -> None:
        missing = task_id + 1 - len(self._rows)
        if missing > 0:
            room = max(missing, len(self._rows) // 4)
            self._rows = np.concatenate([self._rows, np.full((room, self._rows.shape[1]), -1, dtype=np.int64)])


class Ledger:
    """Keeps for each task when it was first learned, and its accuracy untrained, just before, just after, and at best.

    >>> ledger = Ledger(seeds=1)
    >>> ledger.learned(0, 0); ledger.row(0)
    0
    >>> ledger.put(np.array([0]), np.array([[45]]), np.array([50]))
    >>> float(ledger.scores()["acc"][0])
    0.9
    """

    ARRAYS = ("untrained", "before", "after", "best", "now")

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.step = -1
        self.from_untrained = False
        self.first_learned = np.zeros(0, dtype=np.int64)  # −1: not yet
        self.before_at = np.zeros(0, dtype=np.int64)
        self.known = ScoreCache(seeds)
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

    def put(self, task_ids: np.ndarray, n_correct: np.ndarray, n_total: np.ndarray) -> None:
        """Enter cells of the open row, of different tasks ``[n]``: right answers ``[n, S]`` of rows ``[n]`` or ``[n, S]``."""
        self._reach(int(task_ids.max()))
        total = np.where(n_total > 0, n_total, np.nan)
        accuracy = n_correct / total.reshape(len(total), -1)
        accuracy[:, list(self.stopped)] = np.nan
        table, first = self._table, self.first_learned[task_ids]
        table["now"][task_ids] = accuracy
        if self.step < 0:
            table["untrained"][task_ids] = accuracy
            return
        new, own = first < 0, first == self.step
        table["before"][task_ids[new]], self.before_at[task_ids[new]] = accuracy[new], self.step
        table["after"][task_ids[own]] = accuracy[own]

    def scores(self) -> dict[str, Row]:
        """Close the open row and return ``{"acc", "bwt", "fwt", "forgetting"}: [S]``; NaN where not defined or measured."""
        table = self._table
        first = self.first_learned
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
            "first_learned": self.first_learned.copy(),
            "before_at": self.before_at.copy(),
            "measured": self.known.rows,
            **{name: values.copy() for name, values in self._table.items()},
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Ledger:
        """Return the ledger whose `state` this is."""
        ledger = cls(state["now"].shape[1])
        ledger.step, ledger.from_untrained = state["step"], bool(state["from_untrained"])
        ledger.first_learned, ledger.before_at = (
            np.array(state[name], dtype=np.int64) for name in ("first_learned", "before_at")
        )
        ledger.stopped = set(state.get("stopped", ()))
        ledger.known = ScoreCache(ledger.seeds, np.asarray(state["measured"]))
        ledger._table = {name: np.array(state[name]) for name in cls.ARRAYS}
        return ledger

    def _reach(self, task_id: int) -> None:
        missing = task_id + 1 - len(self.first_learned)
        if missing > 0:
            room = max(missing, len(self.first_learned) // 4)
            never = np.full(room, -1, dtype=np.int64)
            self.first_learned = np.concatenate([self.first_learned, never])
            self.before_at = np.concatenate([self.before_at, never])
            more = np.full((room, self.seeds), np.nan)
            self._table = {name: np.concatenate([values, more]) for name, values in self._table.items()}


def _mean(rows: Row) -> Row:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan)


def _integers(numbers: Sequence[int]) -> np.ndarray:
    try:
        return np.array(numbers, dtype=np.int64)
    except OverflowError:
        raise UsageError("a fingerprint does not fit into 64 bits: let it be a counter or Python's hash") from None
