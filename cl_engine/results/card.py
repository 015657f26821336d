"""A run as a small table for a notebook."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cl_engine.core.measure import Measure
from cl_engine.core.text import clean, duration, number, size
from cl_engine.errors import UsageError
from cl_engine.metrics.catalogue import METRICS, SCORES
from cl_engine.results.logged_metrics import LoggedMetric

if TYPE_CHECKING:
    import xarray as xr

MOST = 60  # letters of a text


class Shown(Protocol):
    """The part of `cl_engine.results.run.Run` that is shown.

    >>> isinstance(Shown.final, property)
    True
    """

    path: Path

    @property
    def strategy(self) -> str: ...  # noqa: D102
    @property
    def scenario(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def results(self) -> xr.Dataset: ...  # noqa: D102
    @property
    def final(self) -> xr.Dataset | None: ...  # noqa: D102
    @property
    def measures(self) -> list[Measure]: ...  # noqa: D102
    @property
    def metrics(self) -> dict[str, LoggedMetric]: ...  # noqa: D102
    def metric(self, name: str) -> np.ndarray: ...  # noqa: D102


def in_a_line(run: Shown) -> str:
    """Return what a run is: strategy, scenario, status, and how many tasks it has tested with which seeds."""
    try:
        seeds, tasks = run.results["seed"].values.tolist(), run.results.sizes["task"]
    except UsageError:  # of a damaged log at least its name
        return f"<Run: {clean(run.strategy)} on {clean(run.scenario)}, {run.status}>"
    told = f"{tasks} task{'s' * (tasks != 1)}, seed{'s' * (len(seeds) != 1)} {_listed(seeds)}"
    return f"<Run: {clean(run.strategy)} on {clean(run.scenario)}, {run.status}, {told}>"


def card(run: Shown) -> str:
    """Return a table in HTML: scenario, strategy, how far it got, its scores at the end, memory and time.

    No text of the log is markup.
    """
    found, final = run.results, run.final
    seeds = found["seed"].values.tolist()
    rows = [
        ("status", f"{run.status}, {found.sizes['experience']} experiences, {found.sizes['task']} tasks"),
        ("seeds", _listed(seeds)),
    ]
    if len(run.measures) > 1:
        rows.append(("measured by", ", ".join(measure.title for measure in run.measures)))
    elif final is not None:
        rows += [(METRICS[name].title, _said(final[name].values, METRICS[name].signed)) for name in SCORES]
        for name, about in run.metrics.items():
            values = run.metric(name)
            if values.ndim > 1:  # the mean over tasks at the last test of all
                values = values[int(final["evaluation"])]
                known = np.isfinite(values).any(axis=1)
                values = values[known].mean(axis=0) if known.any() else np.full(len(seeds), np.nan)
            rows.append((about.title, _said(values, about.signed)))
    memory = found["memory"].values
    if len(memory):
        rows.append(("memory of a seed", size(float(memory[-1].sum()))))
    rows += [("time", duration(float(np.nansum(found["seconds"].values)))), ("log", str(run.path))]
    head = _text(f"{run.scenario}, {run.strategy}")
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{_text(name)}</th><td style="text-align:left">{_text(said)}</td></tr>'
        for name, said in rows
        if said
    )
    return f'<table><caption style="text-align:left"><b>{head}</b></caption><tbody>{body}</tbody></table>'


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + ("…" if len(seeds) > 10 else "")


def _said(values: np.ndarray, signed: bool) -> str:
    """Return the mean over seeds and their sample deviation; empty where it is undefined."""
    if not np.isfinite(values).all():
        return ""
    mean = number(float(values.mean()), signed=signed)
    return f"{mean} ± {float(values.std(ddof=1)):.3f} (SD)" if len(values) > 1 else mean


def _text(text: str) -> str:
    plain = clean(" ".join(text.split()))
    return html.escape(plain if len(plain) <= MOST else f"…{plain[1 - MOST :]}")
