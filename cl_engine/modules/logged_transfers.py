"""Transfers that a run of strategy `taxonomy` logged, as advice for tasks of the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.results.transfers import Transfer, Transfers

CLIP = 1e-3  # win rates lie between this and 1 less it (Zamir et al. 2018, §3.3)


@dataclass(frozen=True)
class LoggedTransfers:
    """What a taxonomy says of the tasks of a stream, by their numbers there: the mean over the seeds of its log.

    >>> def probed(kind, sources, wrong):
    ...     return Transfer(1, sources, kind, 9, np.array(wrong), np.array(wrong), 0.5)
    >>> found = (probed("scratch", (), [1.0, 1.0]), probed("transfer", (0,), [0.0, 1.0]))
    >>> logged = LoggedTransfers([Transfers(0, ("digit", "parity"), (9, 9), frozenset(), found)], (0, 1))
    >>> round(logged.source(1, 0), 3), round(logged.advised(1, [0]), 3)
    (-0.288, -0.288)

    Attributes:
        found: the transfers, of each seed of the log.
        tasks: for each task of the stream, its number in the log.
    """

    found: Sequence[Transfers]
    tasks: tuple[int, ...]

    @classmethod
    def of(cls, found: Sequence[Transfers], names: Sequence[str], where: str) -> LoggedTransfers:
        """Find tasks by name in a log; ``where`` names the option that named it.

        Raises:
            UsageError: for a task that the log does not have, or names that do not tell tasks apart.
        """
        known = found[0].names
        twice = next((name for name in (*names, *known) if max(names.count(name), known.count(name)) > 1), None)
        if twice is not None:
            raise UsageError(f"{where}: tasks are found by name, and several are called '{twice}'")
        odd = next((name for name in names if name not in known), None)
        if odd is not None:
            raise UsageError(f"{where}: the run has no task '{odd}'; it is about: {', '.join(known)}")
        return cls(found, tuple(map(known.index, names)))

    def source(self, task: int, source: int) -> float:
        """Return the log of the share of rows on which a readout of the source's net wins over training from scratch."""
        return self._log_win_rate(task, lambda transfer: self._reads(transfer, source))

    def untrained(self, task: int) -> float:
        """Return the same of a readout of an untrained net."""
        return self._log_win_rate(task, lambda transfer: transfer.kind == "untrained")

    def advised(self, task: int, earlier: Sequence[int]) -> float:
        """Return the same of the best source among earlier tasks; of an untrained net where there is none."""
        return max(self.source(task, source) for source in earlier) if earlier else self.untrained(task)

    def _reads(self, transfer: Transfer, source: int) -> bool:
        return transfer.kind == "transfer" and transfer.sources == (self.tasks[source],)

    def _log_win_rate(self, task: int, way: Callable[[Transfer], bool]) -> float:
        rates = []
        for one in self.found:
            ways = one.to(self.tasks[task])
            mine = next((transfer for transfer in ways if way(transfer)), None)
            other = next((transfer for transfer in ways if transfer.kind == "scratch"), None)
            if mine is None or other is None:
                raise UsageError(
                    f"the taxonomy's run lacks ways to '{one.names[self.tasks[task]]}': "
                    "let it finish, with an untrained net and scratch among them"
                )
            wins = np.where(mine.errors == other.errors, 0.5, mine.errors < other.errors)
            rates.append(float(wins.mean()))
        return float(np.log(np.clip(np.mean(rates), CLIP, 1 - CLIP)))


def logged_transfers(run: str | None, stream: Stream, where: str) -> LoggedTransfers | None:
    """Return what the log of a run says of the tasks of a stream, None of no run; ``where`` names the option.

    Raises:
        UsageError: if there is no such run, it holds no transfers, or is about other tasks.
    """
    if run is None:
        return None
    # logs are read with pandas and xarray, which take longer to import than a run to start
    from cl_engine.results.run import open_run
    from cl_engine.results.transfers import transfers_of

    if stream.n_tasks is None:
        raise stream.refuse_endless(f"{where} looks tasks up by name in the log of a run")
    names = [stream.name_of(task) for task in range(stream.n_tasks)]
    return LoggedTransfers.of(transfers_of(open_run(Path(run))), names, where)
