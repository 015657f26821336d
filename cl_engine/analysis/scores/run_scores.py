"""The scores of a run, with confidence over seeds, from its log alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cl_engine.analysis.scores.online import online_scores
from cl_engine.analysis.scores.references import delta_m, diagonal_beside, scores_when_learned
from cl_engine.analysis.scores.statistics import sample_deviation
from cl_engine.metrics import matrix_scores
from cl_engine.metrics.catalogue import SCORES
from cl_engine.results.log_file import MEMORY_RULE, fault
from cl_engine.results.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Array = np.ndarray


@dataclass(frozen=True)
class Score:
    """A score: its value for each seed, and over them the mean and a 95 % confidence interval.

    >>> score = Score(np.array([0.8, 0.9, 1.0]))
    >>> round(score.mean, 3), round(score.half_width, 3)
    (0.9, 0.248)
    """

    values: Array

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN if undefined for one of them."""
        return float(np.mean(self.values)) if len(self.values) else float("nan")

    @property
    def half_width(self) -> float:
        """Half the width of the t interval for the mean; NaN with fewer than two seeds."""
        return float(interval(self.values))


@dataclass(frozen=True)
class Summary:
    """The scores and costs of a run, one row of a table.

    >>> from pathlib import Path
    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> folder = Experiment.of(small.scenario(), "finetune").run(Path("run"), device="cpu")
    >>> from cl_engine.results import open_run
    >>> summary = summarised(open_run(folder))
    >>> summary.seeds, summary.experiences
    (1, 3)

    Attributes:
        acc, bwt, fwt, forgetting: at the last evaluation that tested all tasks met.
        learning_accuracy: mean of R[j, j] over the tasks learned.
        online_accuracy: mean over experiences of the score of batches by the forward pass that trains on them; NaN: not logged.
        curve_area: area under the learning curve, mean over experiences; NaN where learning was not tested midway.
        lca: LCA@β (Chaudhry et al. 2019), mean over experiences; β batches, as many as were tested after each; NaN with none.
        transfer: mean over tasks of R[j, j] less that of the ``independent`` run beside it; NaN without one.
        transfer_last: the same of the last task learned (Veniat et al. 2021).
        delta_m: mean relative change of the last scores to those of ``independent``.
        intransigence: mean over tasks of the ``joint`` run's R[j, j] less this run's; NaN without one.
        memory: bytes one seed holds at the end; ``memory_parts`` by part, ``memory_apart`` those that do not count (None: the
            log counts all of the state).
        size_efficiency: model size efficiency.
        training_flops: operations of all fits, one seed's; NaN in logs that do not have them.
        inference_flops: operations of answering one row of the last task, one seed's.
        seconds: total; ``seconds_phases`` by phase.
    """

    run: Run
    seeds: int
    experiences: int
    acc: Score
    bwt: Score
    fwt: Score
    forgetting: Score
    learning_accuracy: Score
    online_accuracy: Score
    curve_area: Score
    lca: Score
    transfer: Score
    transfer_last: Score
    intransigence: Score
    delta_m: Score
    memory: float
    memory_parts: dict[str, int]
    memory_apart: dict[str, int] | None
    size_efficiency: float
    training_flops: float
    inference_flops: float
    seconds: float
    seconds_phases: dict[str, float]


def interval(values: Array, axis: int = -1) -> Array:
    """Return half the width of the 95 % t interval of the mean along an axis; NaN with fewer than two values."""
    n = values.shape[axis]
    deviation = np.asarray(sample_deviation(values, axis))
    if n < 2:
        return np.full_like(deviation, np.nan)
    from scipy.special import stdtrit  # .2 s to import: not at the start of every run

    return np.asarray(stdtrit(n - 1, 0.975) / np.sqrt(n) * deviation)


def summarised(run: Run, beside: Sequence[Run] = ()) -> Summary:
    """Return the summary of a run; references for transfer are looked for among the runs beside it.

    Of a run of several measures, whose means over tasks would mean nothing, Δm and the costs alone are defined; its scores are
    those of its parts (`cl_engine.results.of_measure.by_measure`).
    """
    found, final = run.results, run.final if len(run.measures) < 2 else None
    seeds = found.sizes["seed"]
    undefined = Score(np.full(seeds, np.nan))
    scores = {name: Score(final[name].values) if final is not None else undefined for name in SCORES}
    learned, own = run.learned, scores_when_learned(run)
    met = (learned >= 0) & (len(run.measures) < 2)
    alone, joint = (diagonal_beside(run, beside, strategy) for strategy in ("independent", "joint"))
    gain = run.sign * (own - alone) if alone is not None else np.full_like(own, np.nan)
    short = run.sign * (joint - own) if joint is not None else np.full_like(own, np.nan)
    memory = found["memory"].values
    phases = {str(name): float(np.nansum(found["seconds"].sel(phase=name))) for name in found["phase"].values}
    return Summary(
        run=run,
        seeds=seeds,
        experiences=len(memory),
        **scores,
        learning_accuracy=Score(own[met].mean(axis=0)) if met.any() else undefined,
        online_accuracy=online_accuracy(run),
        curve_area=curve_area(run),
        lca=lca(run),
        transfer=Score(gain[met].mean(axis=0)) if met.any() else undefined,
        transfer_last=Score(gain[int(np.argmax(learned))]) if met.any() else undefined,
        intransigence=Score(short[met].mean(axis=0)) if met.any() else undefined,
        delta_m=Score(delta_m(run, beside)),
        memory=float(memory[-1].sum()) if len(memory) else float("nan"),
        memory_parts=_parts(found, "memory"),
        memory_apart=_parts(found, "memory_apart") if MEMORY_RULE in run.attributes else None,
        size_efficiency=matrix_scores.model_size_efficiency(memory.sum(axis=1)),
        training_flops=_of_experiences(run, "training_flops").sum(),
        inference_flops=float([np.nan, *_of_experiences(run, "inference_flops")][-1]),
        seconds=sum(phases.values()),
        seconds_phases=phases,
    )


def _parts(found: xr.Dataset, name: str) -> dict[str, int]:
    """Return the bytes of the parts after the last experience, without those of which there are none."""
    last = found[name].values[-1:].sum(axis=0)
    return {str(part): int(held) for part, held in zip(found["part"].values, last, strict=True) if held}


def summaries(runs: Sequence[Run]) -> tuple[list[Summary], list[str]]:
    """Return the summaries of runs beside each other, and a sentence on each run that none can be made of."""
    try:
        return [summarised(run, runs) for run in runs], []
    except Exception:  # of whatever kind: it is looked for which log it is of, and the others are shown
        sound, faults = [], []
    for run in runs:
        try:
            summarised(run)
            sound.append(run)
        except Exception as error:
            faults.append(fault(run.path, error))
    return [summarised(run, sound) for run in sound], faults


def curve_area(run: Run) -> Score:
    """Return the area under the learning curve by seed, the mean over the experiences tested midway."""
    areas = [matrix_scores.learning_curve_area(accuracy, batches) for batches, accuracy in _by_experience(run)]
    return Score(np.mean(areas, axis=0) if areas else np.full(run.results.sizes["seed"], np.nan))


def online_accuracy(run: Run) -> Score:
    """Return the mean online score over the experiences that have one, by seed; NaN with none, or with several measures."""
    scores = online_scores(run)
    known = np.isfinite(scores).any(axis=1) & (len(run.measures) < 2)
    return Score(scores[known].mean(axis=0) if known.any() else np.full(scores.shape[1], np.nan))


def learning_points(run: Run) -> dict[int, pd.DataFrame]:
    """Return for each experience tested midway its test accuracy: batches learned down, seeds across."""
    seeds = list(run.results["seed"].values)
    return {
        int(step): rows.pivot(index="batch", columns="seed", values="score").reindex(columns=seeds)
        for step, rows in _curves(run).groupby("step")
    }


def lca(run: Run) -> Score:
    """Return LCA@β by seed, β being ``agenda.curve_batches``, the mean over the experiences tested midway.

    A fit shorter than β batches, or none at all (a task answered by what is there), is padded with its last value.
    """
    beta = int(run.experiment["options"]["agenda"].get("curve_batches", 0))
    found = []
    for batches, accuracy in _by_experience(run) if beta else ():
        last = np.searchsorted(batches, np.arange(beta + 1), side="right") - 1  # the newest test at each batch
        found.append(matrix_scores.lca(np.where(last[:, None] < 0, np.nan, accuracy[last])))
    return Score(np.mean(found, axis=0) if found else np.full(run.results.sizes["seed"], np.nan))


def learning_curve(run: Run) -> tuple[str, Array, Array] | None:
    """Return how a task is learned: what is counted (``epochs`` or ``batches``), the counts ``[P]``, accuracy ``[P, S]``.

    The accuracy is the mean over all experiences learned, on the test rows of the task being learned. Experiences may
    differ in length; a point is there only if every one of them was tested at it, so that all points are means over
    the same experiences. None if learning was not tested midway, or by several measures.
    """
    if len(run.measures) > 1:
        return None
    table = _curves(run)
    unit = "epoch" if run.experiment["options"]["agenda"].get("curve_epochs") else "batch"
    # after an epoch come the first batches of the next one: the end of the epoch is the earliest point with its number
    table = table.sort_values("batch").drop_duplicates(["step", unit, "seed"], keep="first")
    wide = table.pivot(index=unit, columns=["step", "seed"], values="score").sort_index().dropna()
    if wide.empty:
        return None
    means = [wide.xs(seed, axis=1, level="seed").to_numpy().mean(axis=1) for seed in run.results["seed"].values]
    return ("epochs" if unit == "epoch" else "batches"), wide.index.to_numpy(), np.stack(means, axis=1)


def recomputed(run: Run, rows: int = 64) -> dict[str, Array]:
    """Return ``acc``, ``bwt``, ``fwt`` and ``forgetting`` ``[E, S]``, computed anew from the counts in the log.

    The counts are read ``rows`` evaluations at a time; what is remembered of them is a few numbers a task.
    """
    from cl_engine.metrics.running import walked

    found = run.results
    tasks = found["experience_task"].values
    return walked(found.sizes["seed"], tasks, _rows_of_scores(run, rows), run.measure_of)


def _rows_of_scores(run: Run, at_once: int) -> Iterator[tuple[int, Array]]:
    """Yield the experience of each evaluation and its scores ``[T, S]``, of a few evaluations read at a time."""
    order = run.results["evaluation_step"].values.tolist()
    for start in range(0, len(order), at_once):
        span = slice(start, start + at_once)
        found = run.results.isel(evaluation=span)
        if "n_total" in found:
            right, total = (found[name].values for name in ("n_correct", "n_total"))
            values = np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)
        else:
            values = found["score"].values.astype(float)
        yield from zip(order[span], values, strict=True)


def _curves(run: Run) -> pd.DataFrame:
    """Return the tests in the middle of learning, of experiences learned to the end."""
    table = run.table("curves")
    table = table[table["score"].notna() & (table["step"] < run.results.sizes["experience"])]
    return table.drop_duplicates(["step", "batch", "seed"], keep="last")


def _by_experience(run: Run) -> list[tuple[Array, Array]]:
    """Return for each experience tested midway after how many batches it was ``[P]``, and the score ``[P, S]``.

    None of a run of several measures: what is made of them are means over experiences.
    """
    if len(run.measures) > 1:
        return []
    seeds = {int(seed): place for place, seed in enumerate(run.results["seed"].values)}
    table = _curves(run)
    table = table.assign(place=table["seed"].map(seeds)).sort_values(["step", "batch", "place"])
    # a test is of all seeds at once; what is not is no test of this run
    table = table[table.groupby(["step", "batch"])["place"].transform("count") == len(seeds)]
    step, batch, accuracy = (table[name].to_numpy().reshape(-1, len(seeds)) for name in ("step", "batch", "score"))
    cuts = np.flatnonzero(np.diff(step[:, 0])) + 1
    if not len(step):
        return []
    return list(zip(np.split(batch[:, 0], cuts), np.split(accuracy, cuts), strict=True))


def _of_experiences(run: Run, column: str) -> Array:
    """Return a column of the table ``experiences``, NaN where a log is older than it."""
    table = run.table("experiences")
    return np.asarray(table[column].values if column in table else np.full(len(table), np.nan), dtype=float)
