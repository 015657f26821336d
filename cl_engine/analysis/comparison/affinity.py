"""Sentences on affinity and forward transfer: whether strategies gain most where a taxonomy says that tasks serve each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cl_engine.analysis.names import names_of
from cl_engine.analysis.similarity import FEWEST, mantel
from cl_engine.analysis.taxonomy.affinities import affinities_in
from cl_engine.errors import UsageError
from cl_engine.results.run import Run

DRAWS = 2000  # orders of the tasks


def said_of_affinity(runs: Sequence[Run]) -> list[str]:
    """Return what the forward transfer of each run has to do with the affinities that another of them measured.

    Held against each other are, for every task not yet learned and every test of it, the change of its score since the untrained
    learner, and the mean log affinity of the tasks learned until then for it: Spearman's ρ, with p by other orders of the tasks
    (Mantel). Runs are held against each log of transfers over the same tasks.
    """
    return [
        f"{name} and the affinities of {taxonomy}: {said}"
        for measured, taxonomy in zip(runs, names_of(runs), strict=True)
        if measured.tables.get("transfers")
        for name, said in _said(measured, runs)
    ]


def _said(measured: Run, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    tasks = _tasks(measured)
    try:
        affinity = np.log(affinities_in(measured).matrix().mean(axis=0))
    except UsageError as error:
        yield "other runs", f"not held against each other, as {error}"
        return
    for run, name in zip(runs, names_of(runs), strict=True):
        own = _tasks(run)
        if run.tables.get("transfers") or sorted(own) != sorted(tasks) or len(set(own)) < len(own):
            continue
        order = [tasks.index(task) for task in own]
        try:
            gained = forward_transfer(run)
            found = mantel(affinity[np.ix_(order, order)], gained, permutations=DRAWS, partial=True, change=so_far)
        except UsageError as error:
            yield name, f"forward transfer cannot be held against them: {error}"
            continue
        yield (
            name,
            f"forward transfer goes with them by ρ = {found.rho:.2f}, p = {found.p:.2g} ({found.pairs} tests, Mantel)",
        )


def forward_transfer(run: Run) -> np.ndarray:
    """Return the change of each task's score since the untrained learner, before it is learned; mean over seeds, better is more.

    ``[T, T]``: after the row's task was learned, on the column's; NaN where that was not tested, or learned before.

    Raises:
        UsageError: if tasks are measured by several things, or hardly any was tested before it was learned.
    """
    if len(run.measures) > 1:
        raise UsageError("its tasks are measured by several things, whose changes cannot be ranked together")
    steps, learned, scores = run.results["evaluation_step"].values, run.learned, run.scores.mean(axis=2)
    untrained = steps < 0
    found = np.full((len(learned), len(learned)), np.nan)
    for row in np.flatnonzero(~untrained):
        task = int(run.results["experience_task"].values[steps[row]])
        for other in np.flatnonzero(learned > steps[row]):
            before = scores[untrained, other]
            if steps[row] == learned[task] and np.isfinite(before).any():
                found[task, other] = run.sign * (scores[row, other] - np.nanmax(before))
    if np.isfinite(found).sum() < FEWEST - 1:
        raise UsageError("hardly any task was tested before it was learned (agenda.evaluate_ahead)")
    return found


def so_far(affinity: np.ndarray) -> np.ndarray:
    """Return the mean affinity, for each task, of the row's task and those before it ``[T, T]``."""
    known = np.where(np.eye(len(affinity), dtype=bool), 0, affinity)
    return np.asarray(known.cumsum(axis=0) / np.arange(1, len(affinity) + 1)[:, None])


def _tasks(run: Run) -> list[str]:
    return [str(name) for name in run.results["task_name"].values]
