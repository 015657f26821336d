"""The metrics that a scenario's agenda names."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event, MetricScored, StreamEnded
from cl_engine.loggers.recorder import Recorder
from cl_engine.metrics.catalogue import METRICS
from cl_engine.metrics.plugin import MatrixMetric, PluginMetric
from cl_engine.nn.answer_metric import AnswerMetric
from cl_engine.options import named_with_options
from cl_engine.results.run import Run, open_run
from cl_engine.runs import plugins

LOG = logging.getLogger("cl_engine")


def metric_of(name: str) -> PluginMetric:
    """Return the metric that is named with its options, as ``ece?bins=10``.

    Raises:
        UsageError: if there is none of that name, it is known of every run, or an option is unknown or out of bounds.
    """
    named, options = named_with_options(name, "agenda.metrics")
    if named in METRICS:
        raise UsageError(
            f"agenda.metrics: '{named}' is known of every run (`compare --by {named}`) and need not be asked for; there are: "
            f"{', '.join(plugins.names('metrics'))}, module:Class and file.py:Class"
        )
    kind: type[PluginMetric] = plugins.load("metrics", named)
    found = kind()
    found.configure(options, named)
    return found


def metrics_of(names: Sequence[str], stream: Stream | None = None) -> dict[str, PluginMetric]:
    """Return the metrics that an agenda names, by these names.

    Raises:
        UsageError: as `metric_of`, if one is named twice, or if a metric can be told of no task of the ``stream``.
    """
    found: dict[str, PluginMetric] = {}
    for name in names:
        if name in found:
            raise UsageError(f"agenda.metrics: '{name}' is named twice")
        found[name] = metric_of(name)
    for name, metric in found.items() if stream is not None else ():
        assert stream is not None
        faults = [metric.fault(target) for target in stream.targets] if isinstance(metric, AnswerMetric) else [""]
        if all(faults):
            raise UsageError(f"agenda.metrics: '{name}' cannot be told of the tasks of this stream: {faults[0]}")
    return found


def of_answers(metrics: Mapping[str, PluginMetric]) -> dict[str, AnswerMetric]:
    """Return the metrics that are measured while a run goes on."""
    return {name: metric for name, metric in metrics.items() if isinstance(metric, AnswerMetric)}


def with_metrics_of_scores(
    events: Iterator[Event], metrics: Mapping[str, PluginMetric], recorder: Recorder
) -> Iterator[Event]:
    """Yield events, and before the last of them what metrics of R come to, from the log as it then is.

    One that fails is told of, and is NaN: it can be had from the log again, and what was learned is not lost to it.
    """
    own = {name: metric for name, metric in metrics.items() if isinstance(metric, MatrixMetric)}
    for event in events:
        if isinstance(event, StreamEnded) and own:
            recorder.publish("running")
            run = open_run(recorder.path)
            row = run.results.sizes["evaluation"] - 1
            for name, metric in own.items():
                value = tuple(values_of_scores(metric, name, run).tolist())
                yield MetricScored(step=event.step, evaluation=row, task_id=-1, metric=name, value=value)
        yield event


def values_of_scores(metric: MatrixMetric, name: str, run: Run) -> np.ndarray:
    """Return a metric of R of each seed of a run ``[S]``; NaN where no test was of all tasks, or of several measures."""
    nothing = np.full(run.results.sizes["seed"], np.nan)
    if run.final is None or len(run.measures) > 1:
        return nothing
    rows = int(np.flatnonzero(run.tests_of_all)[-1]) + 1
    try:
        values = metric.values(run.scores[:rows], run.results["evaluation_step"].values[:rows], run.learned)
        found = np.asarray(values, dtype=float)
    except Exception as error:  # a metric of somebody else's may fail in any way
        LOG.warning("the metric %s could not be computed: %s: %s", name, type(error).__name__, error)
        return nothing
    if found.shape != nothing.shape:
        LOG.warning("the metric %s has shape %s, not one number a seed %s", name, found.shape, nothing.shape)
        return nothing
    return found


def told(metrics: Mapping[str, PluginMetric]) -> str:
    """Return what a log says of metrics, as JSON: so that readers need none of them."""
    said: dict[str, dict[str, Any]] = {}
    for name, metric in metrics.items():
        picture = metric.picture if isinstance(metric, AnswerMetric) else ""
        of = "answers" if isinstance(metric, AnswerMetric) else "scores"
        keep = metric.keep if isinstance(metric, AnswerMetric) else "never"
        said[name] = {**vars(metric.about(name)), "of": of, "picture": picture, "keep": keep}
    return json.dumps(said)
