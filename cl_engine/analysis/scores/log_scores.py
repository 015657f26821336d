"""Scores computed from logs that do not hold them: stability gap, maintenance, remembering, and learning against experts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cl_engine.analysis.scores.references import reference
from cl_engine.analysis.scores.run_scores import Score, learning_points
from cl_engine.metrics import lifelong, stability
from cl_engine.results.run import Run

Array = np.ndarray
WINDOW = 10  # tests in a row; De Lange et al. (2023) report windows of 10 and of 100 iterations


def courses(run: Run, learning: bool = False) -> dict[int, Array]:
    """Return for each task learned the scores ``[P, S]`` on it since, midway and between experiences, in order.

    The first is that right after it was learned; with ``learning`` those while it was learned go before it, and those while
    it was learned again stand in their places. Tests of earlier tasks in the middle of learning are there for the first
    tasks met, as many as ``agenda.curve_tasks`` says, in logs from format 1.3.
    """
    found, learned = run.results, run.learned
    steps = found["evaluation_step"].values
    values = run.scores
    points: dict[int, list[tuple[float, float, Array]]] = {}
    for task in np.flatnonzero(learned >= 0).tolist():
        rows = np.flatnonzero((steps >= learned[task]) & np.isfinite(values[:, task]).all(axis=1))
        points[task] = [(float(steps[row]), np.inf, values[row, task]) for row in rows]
    for name in ("stability", "curves") if learning else ("stability",):
        for step, task, batch, row in _midway(run, name):
            if task in points:
                points[task].append((step, batch, row))
    ordered = {task: sorted(held, key=lambda point: point[:2]) for task, held in points.items()}
    return {task: np.stack([point[2] for point in held]) for task, held in ordered.items() if held}


def _midway(run: Run, name: str) -> Iterator[tuple[float, int, float, Array]]:
    """Yield step, task, batch and scores ``[S]`` of the tests in a table of tests in the middle of learning."""
    if not run.tables.get(name):
        return
    table = run.table(name)
    table = table[table["score"].notna() & (table["step"] < run.results.sizes["experience"])]
    table = table.drop_duplicates(["step", "task", "batch", "seed"], keep="last")
    wide = table.pivot(index=["step", "task", "batch"], columns="seed", values="score")
    scores = wide.reindex(columns=run.results["seed"].values).to_numpy()
    for (step, task, batch), row in zip(wide.index, scores, strict=True):
        if np.isfinite(row).all():
            yield float(step), int(task), float(batch), row


def min_acc(run: Run) -> Score:
    """Return min-ACC by seed over the tasks before the last that were tested midway; NaN where none was."""
    earlier = _earlier(run)
    return _score(run, run.sign * stability.min_acc(_better(run, earlier.values())) if earlier else None)


def wc_acc(run: Run) -> Score:
    """Return WC-ACC by seed: the last task's accuracy and min-ACC, each with its share.

    It is defined only if all tasks before the last were tested midway (``agenda.curve_tasks`` as many or more).
    """
    earlier, learned = _earlier(run), run.learned
    if not earlier or len(earlier) < np.count_nonzero(learned >= 0) - 1:
        return _score(run, None)
    last = courses(run).get(int(np.argmax(learned)))
    if last is None:
        return _score(run, None)
    return _score(run, run.sign * stability.wc_acc(run.sign * last[-1], _better(run, earlier.values())))


def windowed_forgetting(run: Run, window: int = WINDOW) -> Score:
    """Return WF^Δ by seed over the tasks followed from before their first batch, Δ counted in tests (`_followed`)."""
    return _score(run, stability.windowed_forgetting(_better(run, _followed(run)), window))


def windowed_plasticity(run: Run, window: int = WINDOW) -> Score:
    """Return WP^Δ by seed over the tasks followed from before their first batch, Δ counted in tests (`_followed`)."""
    return _score(run, stability.windowed_plasticity(_better(run, _followed(run)), window))


def performance_maintenance(run: Run) -> Score:
    """Return performance maintenance (`lifelong.performance_maintenance`) by seed."""
    found = run.results
    values = (run.sign * found["score"].values, found["evaluation_step"].values, found["experience_task"].values)
    return _score(run, lifelong.performance_maintenance(*values))


def remembering(run: Run) -> Score:
    """Return remembering (`lifelong.remembering`) by seed; NaN unless all tasks met were tested after every experience.

    NaN, too, for a measure with a unit: it is 1 less a loss of shares.
    """
    found = run.results
    if run.measures[0].unit != "1":
        return _score(run, None)
    return _score(
        run, lifelong.remembering(run.sign * found["score"].values, found["evaluation_step"].values, run.learned)
    )


def relative_performance(run: Run, beside: Sequence[Run]) -> Score:
    """Return performance relative to the ``independent`` run beside it, by seed, the mean over tasks tested midway in both."""
    found = [lifelong.relative_performance(own, alone) for own, alone in _against(run, beside)]
    return _score(run, np.mean(found, axis=0) if found else None)


def sample_efficiency(run: Run, beside: Sequence[Run]) -> Score:
    """Return sample efficiency against the ``independent`` run beside it, by seed, the mean over tasks where it is defined."""
    seeds = run.results.sizes["seed"]
    found = [
        [lifelong.sample_efficiency(own[:, s], alone[:, s]) for s in range(seeds)]
        for own, alone in _against(run, beside)
    ]
    if not found:
        return _score(run, None)
    values = np.array(found)
    defined = np.isfinite(values)
    total = np.where(defined, values, 0).sum(axis=0)
    return _score(run, np.divide(total, defined.sum(axis=0), out=np.full(seeds, np.nan), where=defined.any(axis=0)))


def transfer_matrix(run: Run, normalised: bool = True) -> Array:
    """Return what learning each experience did to each task ``[experience, T, S]`` (`lifelong.transfer_matrix`).

    Above 0 is what helped: where less is better the sign is turned.
    """
    found = run.results
    way = np.array([1 if measure.higher else -1 for measure in run.task_measures])[:, None]
    return np.asarray(
        way * lifelong.transfer_matrix(found["score"].values, found["evaluation_step"].values, normalised)
    )


def _better(run: Run, courses: Iterable[Array]) -> list[Array]:
    """Return courses turned so that more is better."""
    return [run.sign * course for course in courses]


def _earlier(run: Run) -> dict[int, Array]:
    """Return the courses of tasks before the last one that were tested midway, without the test right after learning."""
    if not run.tables.get("stability") or not len(run.learned):
        return {}
    tested = set(run.table("stability")["task"].unique())
    last = int(np.argmax(run.learned))
    return {task: course[1:] for task, course in courses(run).items() if task != last and task in tested}


def _followed(run: Run) -> list[Array]:
    """Return the courses, from before the first batch on, of tasks tested midway while they and later ones were learned.

    These are the tasks of `_earlier` and the last one, which has none after it; none where no earlier task was followed.
    """
    earlier, learned = _earlier(run), run.learned
    if not earlier and np.count_nonzero(learned >= 0) != 1:
        return []
    tested = {task for _, task, _, _ in _midway(run, "curves")}
    held = courses(run, learning=True)
    return [held[task] for task in (*earlier, int(np.argmax(learned))) if task in tested]


def _against(run: Run, beside: Sequence[Run]) -> list[tuple[Array, Array]]:
    """Return the learning curves ``[P, S]`` of each experience here and in the ``independent`` run, at the points of both.

    None where less is better: both scores are quotients in which a learner that is twice as good has twice the score.
    """
    expert = reference(run, beside, "independent")
    if expert is None or run.sign < 0:
        return []
    here, there = learning_points(run), learning_points(expert)
    pairs = []
    for step in here.keys() & there.keys():
        own, alone = here[step], there[step]
        shared = own.index.intersection(alone.index)
        if len(shared) > 1:
            pairs.append((own.loc[shared].to_numpy(), alone.loc[shared].to_numpy()))
    return pairs


def _score(run: Run, values: Array | None) -> Score:
    """Return a score by seed; none is defined over tasks of several measures."""
    seeds = run.results.sizes["seed"]
    if len(run.measures) > 1:
        values = None
    return Score(np.full(seeds, np.nan) if values is None else np.broadcast_to(values, (seeds,)).astype(float))
