"""The running ledger: the few numbers of each task from which the scores of a run follow.

Holds a few numbers a task and seed (not the matrix), so that the scores of a 5,000-task run cost a few megabytes. The
definitions are those of `metrics`, which computes them from the whole matrix; a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import SCORES

Row = np.ndarray


class ScoreCache:
    """Keeps the last tests of tasks whose answers have a fingerprint; they hold while it stays the same.

    >>> cache = ScoreCache(seeds=2)
    >>> cache.note(0, 7, np.array([0.9, 0.88]), np.array([[45, 50], [44, 50]]))
    >>> cache.hold(np.array([0]), [7])
    array([ True])
    """

    def __init__(self, seeds: int) -> None:
        """Know nothing yet; each test has as many ``seeds``."""
        self._keys = np.full((0, 2), -1, dtype=np.int64)  # at a task's place its number, −1: not known, and fingerprint
        self._score = np.full((0, seeds), np.nan)
        self._sums = np.full((0, seeds, 2), np.nan)

    def state(self) -> dict[str, np.ndarray]:
        """Return what was last noted of each task: ``keys [n, 2]``, ``score [n, S]`` and ``sums [n, S, K]``."""
        there = self._keys[:, 0] >= 0
        return {"keys": self._keys[there], "score": self._score[there], "sums": self._sums[there]}

    def restore(self, state: Mapping[str, np.ndarray] | np.ndarray) -> None:
        """Take up what `state` returned, or, before log format 2.0, rows ``[n, 3 + S]``: task, fingerprint, rows, right."""
        if isinstance(state, Mapping):
            keys, score, sums = (np.asarray(state[name]) for name in ("keys", "score", "sums"))
        else:
            keys, right, rows = state[:, :2], state[:, 3:].astype(float), state[:, 2:3].astype(float)
            sums = np.stack([right, np.broadcast_to(rows, right.shape)], axis=2)
            score = right / rows
        if len(keys):
            self._reach(int(keys[:, 0].max()))
            self._widen(sums.shape[2])
            self._keys[keys[:, 0]], self._score[keys[:, 0]], self._sums[keys[:, 0]] = keys, score, sums

    def hold(self, task_ids: np.ndarray, fingerprints: Sequence[int | None]) -> np.ndarray:
        """Return for which tasks the last test had this fingerprint, ``[n]``."""
        there = np.ones(len(task_ids), dtype=bool)
        if None in fingerprints:
            there = np.array([fingerprint is not None for fingerprint in fingerprints], dtype=bool)
        now = _integers([fingerprint or 0 for fingerprint in fingerprints])
        self._reach(int(task_ids.max(initial=-1)))
        rows = self._keys[task_ids]
        holds: np.ndarray = there & (rows[:, 0] >= 0) & (rows[:, 1] == now)
        return holds

    def note(self, task_id: int, fingerprint: int, score: np.ndarray, sums: np.ndarray) -> None:
        """Take in a test: score ``[S]`` and sums ``[S, K]``."""
        self._reach(task_id)
        self._widen(sums.shape[1])
        self._keys[task_id], self._score[task_id] = _integers([task_id, fingerprint]), score
        self._sums[task_id] = np.nan
        self._sums[task_id, :, : sums.shape[1]] = sums

    def results(self, task_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores ``[n, S]`` and sums ``[n, S, K]`` of the last tests of these tasks; NaN behind a task's last sum."""
        return self._score[task_ids], self._sums[task_ids]

    def _reach(self, task_id: int) -> None:
        missing = task_id + 1 - len(self._keys)
        if missing > 0:
            room = max(missing, len(self._keys) // 4)
            self._keys = np.concatenate([self._keys, np.full((room, 2), -1, dtype=np.int64)])
            self._score, self._sums = (
                np.concatenate([held, np.full((room, *held.shape[1:]), np.nan)]) for held in (self._score, self._sums)
            )

    def _widen(self, sums: int) -> None:
        more = sums - self._sums.shape[2]
        if more > 0:
            self._sums = np.pad(self._sums, ((0, 0), (0, 0), (0, more)), constant_values=np.nan)


class Ledger:
    """Keeps for each task when it was first learned, and its score untrained, just before, just after, and at best.

    >>> ledger = Ledger(seeds=1)
    >>> ledger.learned(0, 0); ledger.row(0)
    0
    >>> ledger.put(np.array([0]), np.array([[0.9]]))
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

    def met(self, task_id: int) -> bool:
        """Return whether a task has been learned."""
        return task_id < len(self.first_learned) and bool(self.first_learned[task_id] >= 0)

    def put(self, task_ids: np.ndarray, score: np.ndarray) -> None:
        """Enter cells of the open row: scores ``[n, S]`` of different tasks ``[n]``."""
        self._reach(int(task_ids.max()))
        score = np.array(score, dtype=float)
        score[:, list(self.stopped)] = np.nan
        table, first = self._table, self.first_learned[task_ids]
        table["now"][task_ids] = score
        if self.step < 0:
            table["untrained"][task_ids] = score
            return
        new, own = first < 0, first == self.step
        table["before"][task_ids[new]], self.before_at[task_ids[new]] = score[new], self.step
        table["after"][task_ids[own]] = score[own]

    def scores(self, measure_of: Callable[[int], Measure] | None = None) -> dict[str, Row]:
        """Close the open row and return ``{"acc", "bwt", "fwt", "forgetting"}: [S]``; NaN where not defined or measured.

        ``measure_of`` says what a task is measured by; None: all by one of which more is better. Where tasks met differ in
        it, a mean over them would mean nothing, and all are NaN.
        """
        table, better = self._table, 1.0  # or −1: less is better
        if measure_of is not None:
            known = {measure_of(int(task)) for task in np.flatnonzero(self.first_learned >= 0)}
            better = math.nan if len(known) > 1 else 1.0 if all(measure.higher for measure in known) else -1.0
        first = self.first_learned
        met = (first >= 0) & (first <= self.step)
        old = met & (first < self.step)
        late = met & (first > 0)
        result = {
            "acc": _mean(table["now"][met]) * abs(better),
            "bwt": _mean(table["now"][old] - table["after"][old]) * better + 0.0,  # no −0
            "fwt": _mean(table["before"][late] - table["untrained"][late]) * better + 0.0,
            "forgetting": _mean(table["best"][old] - table["now"][old]) * better + 0.0,
        }
        if self.step >= 0:
            table["best"] = self._best(measure_of)
        return {name: result[name] for name in SCORES}

    def _best(self, measure_of: Callable[[int], Measure] | None) -> np.ndarray:
        """Return the best score of each task so far, by the direction of its measure."""
        best, now = self._table["best"], self._table["now"]
        found: np.ndarray = np.fmax(best, now)
        if measure_of is not None:
            tested = np.flatnonzero(np.isfinite(now).any(axis=1)).tolist()
            less = [task for task in tested if not measure_of(task).higher]
            found[less] = np.fmin(best[less], now[less])
        return found

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the ledger: arrays and lists."""
        return {
            "step": self.step,
            "from_untrained": int(self.from_untrained),
            "stopped": sorted(self.stopped),
            "first_learned": self.first_learned.copy(),
            "before_at": self.before_at.copy(),
            "measured": self.known.state(),
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
        ledger.known.restore(state["measured"])
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


def walked(
    seeds: int,
    tasks: np.ndarray,
    rows: Iterable[tuple[int, np.ndarray]],
    measure_of: Callable[[int], Measure] | None = None,
) -> dict[str, np.ndarray]:
    """Return the scores ``[E, S]`` of a whole R by name, from its rows alone: those of `Ledger`, which is walked along them.

    ``tasks`` are those of the experiences, −1 for one that R has nothing to say of; a row is the experience after which it was
    tested, and scores ``[T, S]``.
    """
    ledger, learned = Ledger(seeds), 0
    found: list[dict[str, Row]] = []
    for step, scores in rows:
        while learned <= min(step, len(tasks) - 1):  # not all experiences are followed by a test
            if tasks[learned] >= 0:
                ledger.learned(learned, int(tasks[learned]))
            learned += 1
        ledger.row(int(step))
        tested = np.flatnonzero(np.isfinite(scores).any(axis=1))
        if len(tested):
            ledger.put(tested, scores[tested])
        found.append(ledger.scores(measure_of))
    return {name: np.array([row[name] for row in found]).reshape(len(found), seeds) for name in SCORES}


def _mean(rows: Row) -> Row:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1:], np.nan)


def _integers(numbers: Sequence[int]) -> np.ndarray:
    try:
        return np.array(numbers, dtype=np.int64)
    except OverflowError:
        raise UsageError("a fingerprint does not fit into 64 bits: let it be a counter or Python's hash") from None
