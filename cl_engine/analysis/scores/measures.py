"""What runs can be compared by: one number a seed, each with its name, its unit and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cl_engine.analysis.scores import log_scores
from cl_engine.analysis.scores.run_scores import Score, Summary, summarised
from cl_engine.errors import unknown
from cl_engine.results.run import Run

Array = np.ndarray


@dataclass(frozen=True)
class Measure:
    """A number a seed that a run is judged by.

    Attributes:
        name: what it is called on the command line.
        title: what it is called in tables and pictures.
        higher: whether more is better.
        of: given the run's summary and the runs beside it, its values ``[S]``; NaN where undefined.
        unit: empty for a share.
    """

    name: str
    title: str
    higher: bool
    of: Callable[[Summary, Sequence[Run]], Array]
    unit: str = ""


def _same_for_all(field: str) -> Callable[[Summary, Sequence[Run]], Array]:
    return lambda summary, _: np.full(summary.seeds, float(getattr(summary, field)))


def _further(score: Callable[[Run], Score]) -> Callable[[Summary, Sequence[Run]], Array]:
    return lambda summary, _: score(summary.run).values


def _scores(field: str) -> Callable[[Summary, Sequence[Run]], Array]:
    return lambda summary, _: np.asarray(getattr(summary, field).values, dtype=float)


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("acc", "ACC", True, _scores("acc")),
        Measure("bwt", "BWT", True, _scores("bwt")),
        Measure("fwt", "FWT", True, _scores("fwt")),
        Measure("forgetting", "forgetting", False, _scores("forgetting")),
        Measure("learning_accuracy", "learning accuracy", True, _scores("learning_accuracy")),
        Measure("curve_area", "curve area", True, _scores("curve_area")),
        Measure("lca", "LCA", True, _scores("lca")),
        Measure("transfer", "transfer", True, _scores("transfer")),
        Measure("intransigence", "intransigence", False, _scores("intransigence")),
        Measure("min_acc", "min-ACC", True, _further(log_scores.min_acc)),
        Measure("wc_acc", "WC-ACC", True, _further(log_scores.wc_acc)),
        Measure("windowed_forgetting", "WF10", False, _further(log_scores.windowed_forgetting)),
        Measure("windowed_plasticity", "WP10", True, _further(log_scores.windowed_plasticity)),
        Measure("performance_maintenance", "maintenance", True, _further(log_scores.performance_maintenance)),
        Measure("remembering", "remembering", True, _further(log_scores.remembering)),
        Measure(
            "relative_performance",
            "relative performance",
            True,
            lambda s, beside: log_scores.relative_performance(s.run, beside).values,
        ),
        Measure(
            "sample_efficiency",
            "sample efficiency",
            True,
            lambda s, beside: log_scores.sample_efficiency(s.run, beside).values,
        ),
        Measure("memory", "memory", False, _same_for_all("memory"), "byte"),
        Measure("seconds", "time", False, lambda s, _: np.full(s.seeds, s.seconds / max(1, s.seeds)), "s"),
        Measure("training_flops", "training FLOPs", False, _same_for_all("training_flops")),
    )
}


def measure(name: str) -> Measure:
    """Return the measure of this name.

    Raises:
        UsageError: if there is none, with the names that there are.
    """
    if name not in MEASURES:
        raise unknown("measure", name, MEASURES)
    return MEASURES[name]


def measured(run: Run, names: Sequence[str], beside: Sequence[Run] = ()) -> dict[str, Array]:
    """Return the values ``[S]`` of several measures of a run; references are looked for among the runs beside it."""
    summary = summarised(run, beside)
    return {name: measure(name).of(summary, beside) for name in names}
