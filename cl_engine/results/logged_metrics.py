"""The metrics of the agenda as a log holds them; what they are is said in the log, so that no plug-in is needed to read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from cl_engine.core.text import clean
from cl_engine.errors import UsageError, unknown
from cl_engine.metrics.catalogue import Metric

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

ABOUT = "metrics"  # the text in the log's environment


class Log(Protocol):
    """The part of `cl_engine.results.run.Run` that is read here.

    >>> callable(Log.table)
    True
    """

    path: Path

    @property
    def environment(self) -> dict[str, str]: ...  # noqa: D102

    @property
    def results(self) -> xr.Dataset: ...  # noqa: D102

    @property
    def tables(self) -> dict[str, int]: ...  # noqa: D102

    @property
    def metrics(self) -> dict[str, LoggedMetric]: ...  # noqa: D102

    def table(self, name: str) -> pd.DataFrame: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class LoggedMetric(Metric):
    """A metric that a run was asked for.

    >>> LoggedMetric(name="ece", title="ECE", higher=False, of="answers", picture="bins").of
    'answers'

    Attributes:
        of: ``answers``, measured on each task wherever it was tested; or ``scores``, a function of R at the end of the run.
        picture: what can be drawn of its sums: ``matrix``, ``bins`` or nothing.
    """

    of: Literal["answers", "scores"]
    picture: str = ""


def metrics_in(run: Log) -> dict[str, LoggedMetric]:
    """Return the metrics that a log says it was asked for, by name.

    Raises:
        UsageError: if what it says is not as it is written.
    """
    text = run.environment.get(ABOUT)
    if not text:
        return {}
    try:
        return {str(name): _logged(told) for name, told in json.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{run.path} is damaged: environment/{ABOUT} does not say which metrics it has") from None


def _logged(told: dict[str, Any]) -> LoggedMetric:
    name, title, meaning, unit, picture = (
        clean(str(told[key])) for key in ("name", "title", "meaning", "unit", "picture")
    )
    of: Literal["answers", "scores"] = "scores" if told["of"] == "scores" else "answers"
    higher, signed = bool(told["higher"]), bool(told["signed"])
    return LoggedMetric(
        name=name, title=title, meaning=meaning, higher=higher, signed=signed, unit=unit, of=of, picture=picture
    )


def values_of(run: Log, name: str) -> np.ndarray:
    """Return a metric as R is ``[E, T, S]``, or, where it is a function of R, of each seed ``[S]``.

    Where a task's score was taken over as unchanged, so is the metric.

    Raises:
        UsageError: if the log has no such metric.
    """
    about, sizes = _about(run, name), run.results.sizes
    rows = _rows(run, "metrics", name)
    places = {int(seed): place for place, seed in enumerate(run.results["seed"].values)}
    seed = np.array([places.get(int(own), -1) for own in rows["seed"]], dtype=int)
    if about.of == "scores":
        found = np.full(sizes["seed"], np.nan)
        kept = (seed >= 0) & (rows["task"] < 0)
        found[seed[kept]] = rows["value"][kept]
        return found
    measured = np.zeros((sizes["evaluation"], sizes["task"]), dtype=bool)
    values = np.full((sizes["evaluation"], sizes["task"], sizes["seed"]), np.nan)
    evaluation, task = (rows[key].astype(int) for key in ("evaluation", "task"))
    inside = (seed >= 0) & (evaluation >= 0) & (evaluation < len(values)) & (task >= 0) & (task < sizes["task"])
    values[evaluation[inside], task[inside], seed[inside]] = rows["value"][inside]
    measured[evaluation[inside], task[inside]] = True
    tested = np.isfinite(np.asarray(run.results["score"].values)).any(axis=2)
    before = np.full(values.shape[1:], np.nan)
    for e, row in enumerate(values):
        before = np.where(measured[e][:, None], row, before)
        values[e] = np.where((measured[e] | tested[e])[:, None], before, np.nan)
    return values


def sums_of(run: Log, name: str, evaluation: int | None = None) -> dict[int, np.ndarray]:
    """Return the sums ``[S, K]`` of a metric by task, in one evaluation; left out: the last that has any.

    Empty where none were kept: those at the end are of runs that got there.

    Raises:
        UsageError: if the log has no such metric.
    """
    _about(run, name)
    rows = _rows(run, "metric_sums", name)
    if not len(rows["seed"]):
        return {}
    wanted = int(rows["evaluation"].max()) if evaluation is None else evaluation
    own = {key: values[rows["evaluation"] == wanted] for key, values in rows.items()}
    places = {int(seed): place for place, seed in enumerate(run.results["seed"].values)}
    found = {}
    for task in np.unique(own["task"]).tolist():
        of_task = own["task"] == task
        at = own["place"][of_task].astype(int)
        seed = [places[int(each)] for each in own["seed"][of_task]]
        sums = np.zeros((len(places), int(at.max()) + 1))
        sums[seed, at] = own["value"][of_task]
        found[int(task)] = sums
    return found


def _about(run: Log, name: str) -> LoggedMetric:
    if name not in run.metrics:
        raise unknown("metric of this run", name, run.metrics)
    return run.metrics[name]


def _rows(run: Log, table: str, name: str) -> dict[str, np.ndarray]:
    """Return the columns of a table of metrics, of one metric; empty ones where the log has no such table."""
    if table not in run.tables:
        return {key: np.empty(0) for key in ("evaluation", "task", "seed", "place", "value")}
    found = run.table(table)
    own = found[found["metric"] == name]
    return {str(key): own[key].to_numpy() for key in own}
