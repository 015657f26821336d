"""Metrics of the agenda, and of one's own, as numbers by which runs are compared: one a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cl_engine.analysis.scores.run_scores import Score, Summary
from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import Metric
from cl_engine.results.logged_metrics import LoggedMetric
from cl_engine.results.run import Run

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class SeedMetric(Metric):
    """A metric with its values for each seed of a run.

    >>> from cl_engine.analysis.scores.measures import MEASURES
    >>> MEASURES["forgetting"].higher
    False

    Attributes:
        of: given the run's summary and the runs beside it, its values ``[S]``; NaN where undefined.
    """

    of: Callable[[Summary, Sequence[Run]], Array]


def names() -> list[str]:
    """Return the names of the metrics that an agenda may ask for."""
    from cl_engine.runs import plugins  # imports torch

    return plugins.names("metrics")


def logged(about: LoggedMetric) -> SeedMetric:
    """Return a metric that logs hold."""
    return SeedMetric(**_said(about), of=lambda summary, _: at_the_end(summary.run, about.name))


def of_one_s_own(name: str) -> SeedMetric:
    """Return a metric of R that is named ``module:Class`` or ``file.py:Class``; to load it runs code of that module or file.

    Raises:
        UsageError: if there is none, or it is one of answers, which are there only where a run was asked for it.
    """
    from cl_engine.metrics.plugin import MatrixMetric
    from cl_engine.runs.metrics import metric_of, values_of_scores  # imports torch

    metric = metric_of(name)
    if not isinstance(metric, MatrixMetric):
        raise UsageError(
            f"none of these runs has measured '{name}', which is a metric of answers: ask for it when they are run, with "
            f"--set agenda.metrics={name}"
        )
    return SeedMetric(**_said(metric.about(name)), of=lambda summary, _: values_of_scores(metric, name, summary.run))


def at_the_end(run: Run, name: str) -> Array:
    """Return a metric that a log holds for each seed ``[S]``, of answers as its mean over the tasks met at the last test of all.

    NaN where the log does not hold it, there was no such test, or tasks are measured by several things.
    Tasks that it cannot be told of are left out.
    """
    nothing = np.full(run.results.sizes["seed"], np.nan)
    if name not in run.metrics or len(run.measures) > 1:
        return nothing
    values = run.metric(name)
    if values.ndim == 1:
        return values
    means = over_stream(run, name)
    full = np.flatnonzero(run.tests_of_all)
    return np.asarray(means[full[-1]]) if len(full) else nothing


def over_stream(run: Run, name: str) -> Array:
    """Return a metric of answers after each test ``[E, S]``: its mean over the tasks met that it can be told of.

    NaN where not all tasks met were tested.
    """
    values, steps, first = run.metric(name), run.results["evaluation_step"].values, run.learned
    means = np.full((len(steps), values.shape[2]), np.nan)
    can = np.isfinite(values).any(axis=(0, 2))  # tasks it can be told of
    for e in np.flatnonzero(run.tests_of_all & (steps >= 0)):
        met = (first >= 0) & (first <= steps[e]) & can
        if met.any():
            means[e] = values[e, met].mean(axis=0)
    return means


def scores(run: Run) -> list[tuple[Metric, Score]]:
    """Return the metrics of the agenda of a run at its end, each with its values by seed."""
    return [(about, Score(at_the_end(run, name))) for name, about in run.metrics.items()]


def _said(about: Metric) -> dict[str, Any]:
    return {name: getattr(about, name) for name in ("name", "title", "meaning", "higher", "signed", "unit")}
