"""Runs that a run is held against: the one that learns each task alone, and the one that learns all together."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from cl_engine.metrics import matrix_scores
from cl_engine.results.kept import kept_with_run
from cl_engine.results.run import Run

Array = np.ndarray


def reference(run: Run, beside: Sequence[Run], strategy: str) -> Run | None:
    """Return the run of this strategy on the same stream with the same net, backbone and seeds, if it is there.

    The same net may be initialised in another way: masks, say, ask for another one than training does.
    """
    for other in beside:
        if other.strategy == strategy and _learned(other) == _learned(run) and other.measures == run.measures:
            return other
    return None


def delta_m(run: Run, beside: Sequence[Run]) -> Array:
    """Return Δm by seed: how far the last scores on the tasks learned are from those of ``independent``, relative to these.

    The mean over tasks of (M − M₀) / M₀, its sign turned where less is better (Maninis et al. 2019, eq. 3): the one number
    across measures; 0.1 is ten percent better. NaN without a run of ``independent`` beside it, or where that scores 0 on a task.
    """
    alone = reference(run, beside, "independent")
    return np.full(run.results.sizes["seed"], np.nan) if alone is None else delta_m_to(run, alone)


def delta_m_to(run: Run, alone: Run) -> Array:
    """Return Δm by seed against this run of nets that learned each task alone, which may be other nets than the run's."""
    pair = [last_scores(one) for one in (run, alone)]
    if pair[0].shape != pair[1].shape or not (run.learned >= 0).any():
        return np.full(run.results.sizes["seed"], np.nan)
    way = np.array([1 if measure.higher else -1 for measure in run.task_measures])[:, None]
    changes = way * (pair[0] - pair[1]) / np.abs(np.where(pair[1] == 0, np.nan, pair[1]))
    return np.asarray(changes[run.learned >= 0].mean(axis=0))


@kept_with_run
def last_scores(run: Run) -> Array:
    """Return the score on each task in the last test of it ``[T, S]``."""
    order = np.argsort(run.results["evaluation_step"].values, kind="stable")
    tested = np.isfinite(run.results["score"].values[order])
    if not len(tested):
        return np.full(tested.shape[1:], np.nan)
    last = order[len(tested) - 1 - np.argmax(tested[::-1], axis=0)]
    rows, place = np.unique(last, return_inverse=True)
    found = np.take_along_axis(run.scores_in(rows), place.reshape(1, *last.shape), axis=0)[0]
    return np.where(tested.any(axis=0), found, np.nan)


@kept_with_run
def scores_when_learned(run: Run) -> Array:
    """Return R[j, j], the score on each task right after it was learned first ``[T, S]``."""
    found = run.results
    return matrix_scores.diagonal(found["score"].values, found["evaluation_step"].values, run.learned)


@kept_with_run
def _learned(run: Run) -> str:
    """Return what a run learns, with which net and seeds: all that a reference has in common with it."""
    tables = {table: dict(run.experiment["options"].get(table) or {}) for table in ("stream", "net", "backbone")}
    tables["net"].pop("init", None)
    return json.dumps([tables, run.experiment["seeds"]], sort_keys=True)


def diagonal_beside(run: Run, beside: Sequence[Run], strategy: str) -> Array | None:
    """Return R[j, j] of the reference run of this strategy ``[T, S]``; None if there is none."""
    other = reference(run, beside, strategy)
    if other is None:
        return None
    diagonal = scores_when_learned(other)
    return diagonal if diagonal.shape[0] == run.results.sizes["task"] else None
