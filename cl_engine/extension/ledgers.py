"""The ledger of a run as it was before its last tests, from the rows of R that are in its log."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from cl_engine.data.stream import Stream
from cl_engine.metrics.running import Ledger


def ledger_of(results: h5py.Group, stream: Stream, state: dict[str, Any], validation: bool = False) -> Ledger:
    """Return the ledger that has walked along the rows that a log holds, after all experiences that it holds.

    Args:
        results: the group ``results`` of the log.
        stream: what was learned.
        state: the ledger's state in the checkpoint, whose notes of tests that still hold, and of stopped seeds, stay.
        validation: whether it is the ledger of the scores on validation rows.
    """
    ledger, after = Ledger(len(results["seed"])), Ledger.restored(state)
    measure_of = None if stream.only_accuracy else lambda task: stream.target(task).measure
    tasks, learned = results["experience_task"][:].tolist(), 0
    for number, step in enumerate(results["evaluation_step"][:].tolist()):
        while learned <= step:
            ledger.learned(learned, tasks[learned])
            learned += 1
        tested, scores = _scores(results["validation"] if validation else results, number, stream)
        if validation and not len(tested):
            continue  # no row of theirs
        ledger.row(step)
        if len(tested):
            ledger.put(tested, scores)
        ledger.scores(measure_of)
    for later in range(learned, len(tasks)):
        ledger.learned(later, tasks[later])
    ledger.known, ledger.stopped = after.known, after.stopped
    return ledger


def _scores(results: h5py.Group, number: int, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """Return the tasks tested in a row of R ``[n]``, and their scores ``[n, S]`` as their targets give them."""
    if "n_total" in results:
        right, total = (results[name][number].astype(float) for name in ("n_correct", "n_total"))
        tested = np.flatnonzero((total > 0).any(axis=1))
        sums = np.stack([right, np.where(total > 0, total, np.nan)], axis=2)
    else:
        sums = results["sums"][number]
        tested = np.flatnonzero(np.isfinite(sums).any(axis=(1, 2)))
    scores = [
        stream.target(task).score(sums[task][:, : len(stream.target(task).sum_names)]) for task in tested.tolist()
    ]
    return tested, np.array(scores).reshape(len(tested), sums.shape[1])
