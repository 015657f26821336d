"""The measures that runs can be compared by: metrics with a value for each seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from cl_engine.analysis.scores import log_scores, own_metrics
from cl_engine.analysis.scores.own_metrics import SeedMetric
from cl_engine.analysis.scores.run_scores import Score, Summary, summarised
from cl_engine.core.measure import Measure
from cl_engine.errors import unknown
from cl_engine.metrics.catalogue import METRICS, SCORES
from cl_engine.results.run import Run

Array = np.ndarray


def _same_for_all(field: str) -> Callable[[Summary, Sequence[Run]], Array]:
    return lambda summary, _: np.full(summary.seeds, float(getattr(summary, field)))


def _further(score: Callable[[Run], Score]) -> Callable[[Summary, Sequence[Run]], Array]:
    return lambda summary, _: score(summary.run).values


def _scores(field: str) -> Callable[[Summary, Sequence[Run]], Array]:
    return lambda summary, _: np.asarray(getattr(summary, field).values, dtype=float)


VALUES: dict[str, Callable[[Summary, Sequence[Run]], Array]] = {
    **{
        name: _scores(name)
        for name in (
            *SCORES,
            "learning_accuracy",
            "online_accuracy",
            "curve_area",
            "lca",
            "transfer",
            "intransigence",
            "delta_m",
        )
    },
    "min_acc": _further(log_scores.min_acc),
    "wc_acc": _further(log_scores.wc_acc),
    "windowed_forgetting": _further(log_scores.windowed_forgetting),
    "windowed_plasticity": _further(log_scores.windowed_plasticity),
    "performance_maintenance": _further(log_scores.performance_maintenance),
    "remembering": _further(log_scores.remembering),
    "relative_performance": lambda summary, beside: log_scores.relative_performance(summary.run, beside).values,
    "sample_efficiency": lambda summary, beside: log_scores.sample_efficiency(summary.run, beside).values,
    "memory": _same_for_all("memory"),
    "seconds": lambda summary, _: np.full(summary.seeds, summary.seconds / max(1, summary.seeds)),
    "training_flops": _same_for_all("training_flops"),
}
# levels of scores, whose way is that of what tasks are measured by; differences are turned so that it is always the same
LEVELS = ("acc", "learning_accuracy", "online_accuracy", "curve_area", "lca", "min_acc", "wc_acc")
OF_WHOLE_RUNS = (
    "delta_m",
    "memory",
    "seconds",
    "training_flops",
)  # defined also where tasks are measured by several things
MEASURES = {name: SeedMetric(**vars(METRICS[name]), of=values) for name, values in VALUES.items()}


def measure(name: str, runs: Sequence[Run] = ()) -> SeedMetric:
    """Return the measure of this name: one that all runs have, a metric that one of ``runs`` logged, or one's own of R.

    Metrics of answers are means over the tasks met at the last test of all of them, as ACC is. One's own metric of R is named
    ``module:Class`` or ``file.py:Class``, is loaded where a log does not hold it, and computed from R.

    Raises:
        UsageError: if there is none, with the names that there are; or if it is one of answers that was not measured.
    """
    if name in MEASURES:
        return MEASURES[name]
    logged = [run.metrics[name] for run in runs if name in run.metrics]
    if logged and (len(logged) == len(runs) or logged[0].of == "answers"):
        return own_metrics.logged(logged[0])
    if ":" in name or name.partition("?")[0] in own_metrics.names():
        return own_metrics.of_one_s_own(name)
    raise unknown("measure", name, [*MEASURES, *(known for run in runs for known in run.metrics)])


def of_scores(asked: SeedMetric, name: Measure) -> SeedMetric:
    """Return a measure as it is of runs whose tasks are measured by ``name``: its title says so, and which way is better."""
    if asked.name in OF_WHOLE_RUNS or name == Measure("accuracy"):
        return asked
    said = name.name if name.unit == "1" else f"{name.name}, {name.unit}"
    return replace(asked, title=f"{asked.title} ({said})", higher=name.higher if asked.name in LEVELS else asked.higher)


def measured(run: Run, names: Sequence[str], beside: Sequence[Run] = ()) -> dict[str, Array]:
    """Return the values ``[S]`` of several measures of a run; references are looked for among the runs beside it."""
    summary = summarised(run, beside)
    return {name: measure(name, [run, *beside]).of(summary, beside) for name in names}
