"""Reading logs: labelled arrays and tables from HDF5 files alone, without torch, also while a run writes them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.metrics.matrix_scores import forward_transfer_by_task
from cl_engine.results.audit import audit
from cl_engine.results.card import card, in_a_line
from cl_engine.results.held import CELLS, NEWER, Held, held_of
from cl_engine.results.log_file import LOG_NAME, array, attributes_of, opened, searched, subgroup
from cl_engine.results.logged_metrics import LoggedMetric, metrics_in, sums_of, values_of
from cl_engine.results.table_columns import COLUMNS, NAMES

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def open_run(path: str | Path) -> Run:
    """Open the log of a run: its folder, or the ``log.h5`` in it.

    All that is small is read at once, so that what is said of a run that goes on is of one moment; the accuracy matrix
    and the tables are read when they are asked for. No file is held open, and none is locked.

    Raises:
        UsageError: if there is none, it is not one of ours, a newer program wrote it, or it is not to be trusted
            (`cl_engine.results.audit`).
    """
    file = Path(path)
    try:
        file = file / LOG_NAME if file.is_dir() else file
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    with opened(file) as log:
        attributes = attributes_of(log)
        audit(log)
        return Run(file, attributes, held_of(log))


def open_runs(*places: str | Path | Sequence[str | Path], strict: bool = False) -> xr.Dataset:
    """Open many logs as one dataset: see `cl_engine.results.dataset.open_runs`, whose arguments these are."""
    from cl_engine.results.dataset import scanned  # imports xarray: a second

    return scanned(*searched(*places), strict)


class Run:
    """A log: the results measured, tables, and the experiment that was run.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> run = open_run(Experiment.of(small.scenario(), "finetune").run(Path("run"), device="cpu"))
    >>> run.status, run.results["accuracy"].dims, len(run.table("epochs"))
    ('finished', ('evaluation', 'task', 'seed'), 6)
    """

    def __init__(self, path: Path, attributes: dict[str, str], held: Held) -> None:
        self.path, self.attributes = path, attributes
        self._held = held
        self.parts: list[Run] | None = None  # one for each of several measures, once they are asked for

    @property
    def logs(self) -> list[Path]:
        """The logs that it is read from: one, unless seeds are spread over several."""
        return [self.path]

    @property
    def strategy(self) -> str:
        return self.attributes["strategy"]

    @property
    def scenario(self) -> str:
        return self.attributes["scenario"]

    @property
    def status(self) -> str:
        """One of running, stopped, failed, finished."""
        return self.attributes["status"]

    @cached_property
    def results(self) -> xr.Dataset:
        """The group ``results``, labelled: R (``score``; ``accuracy`` and its counts), scores, memory and seconds.

        R stays on disk until it is asked for.

        Raises:
            UsageError: if its arrays do not fit each other.
        """
        import xarray as xr  # 1 s to import: only when used

        from cl_engine.results.lazy_arrays import OneRun, Place, lazily

        found = {name: xr.Variable(*parts) for name, parts in self._held.small.items()}
        for name, (axes, shape, dtype, attributes) in self._held.large.items():
            place = Place(self.path, self.attributes["run_id"], name, shape, CELLS[name])
            found[name] = xr.Variable(axes, lazily(OneRun(place, dtype)), attributes)
        if "score" not in found:  # in logs of before format 2.0
            found["score"] = found["accuracy"]
        for name, value in NEWER.items():
            kind = object if isinstance(value, str) else None
            found.setdefault(name, xr.Variable("task", np.full(len(found["task"]), value, dtype=kind)))
        try:
            return xr.Dataset(found)
        except ValueError as error:
            raise UsageError(f"{self.path} is damaged: {error}") from None

    @cached_property
    def validation(self) -> xr.Dataset | None:
        """The scores on validation rows, over the axes of `results`: ``score``, its counts or sums, and what follows from it.

        None where the log has none: the stream sets no rows aside, or ``agenda.validation`` is off.

        Raises:
            UsageError: if its arrays do not fit those of the results.
        """
        from cl_engine.results.validation import validation_of

        return validation_of(self.path, self.results)

    @cached_property
    def task_measures(self) -> list[Measure]:
        """What each task is measured by, in the order of tasks."""
        said = (self.results[f"task_{part}"].values.tolist() for part in ("measure", "unit", "direction"))
        return [Measure(str(name), str(unit), way >= 0) for name, unit, way in zip(*said, strict=True)]

    def measure_of(self, task: int) -> Measure:
        """Return what a task is measured by; one that was never tested has no place yet, and counts as the first."""
        return self.task_measures[task] if task < len(self.task_measures) else self.measures[0]

    @cached_property
    def measures(self) -> list[Measure]:
        """The measures that there are, in the order in which tasks first have them."""
        return list(dict.fromkeys(self.task_measures)) or [Measure("accuracy")]

    @property
    def sign(self) -> int:
        """1 where more of what R holds is better, −1 where less is; of several measures that of the first."""
        return 1 if self.measures[0].higher else -1

    @cached_property
    def scores(self) -> np.ndarray:
        """R ``[E, T, S]``, float64: where there are counts as they give it, which is more than is stored of R."""
        return self.scores_in(slice(None))

    def scores_in(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return some rows of `scores`; of a long run that is read much sooner than all."""
        if "n_total" not in self.results:
            return np.asarray(self.results["score"][rows].values, dtype=float)
        right, total = (np.asarray(self.results[name][rows].values, dtype=float) for name in ("n_correct", "n_total"))
        return np.asarray(np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0))

    def table(self, name: str) -> pd.DataFrame:
        """Return a flat table: ``epochs``, ``experiences``, ``curves``, ``events``; rows of when the run was opened.

        Raises:
            UsageError: if the log has none of that name, or it lacks a column.
        """
        import pandas as pd

        if name not in self._held.rows:
            raise UsageError(f"{self.path} has no table '{name}'; there are: {', '.join(self._held.rows)}")
        rows = slice(0, self._held.rows[name])
        with opened(self.path) as file:
            group = subgroup(file, name)
            columns = {key: array(group, key, rows) for key in group if key != "row"}
            found = pd.DataFrame(columns)
        if "n_total" in found and "score" not in found:  # before format 2.0
            found["score"] = found["n_correct"] / found["n_total"].where(found["n_total"] > 0)
        odd = [
            key
            for key in COLUMNS.get(name, ())
            if key not in found or (key in NAMES) == (found[key].dtype.kind in "iuf")
        ]
        if odd:
            raise UsageError(f"{self.path} is damaged: the table {name} has no column '{odd[0]}' of its kind")
        return found

    @property
    def tables(self) -> dict[str, int]:
        """The tables that there are, and how many rows each has."""
        return dict(self._held.rows)

    @property
    def environment(self) -> dict[str, str]:
        """Versions, device, command, and the experiment and scenario as text."""
        return self._held.environment

    @cached_property
    def experiment(self) -> dict[str, Any]:
        """The experiment in full, every option resolved.

        Raises:
            UsageError: if the log does not say it.
        """
        try:
            found = json.loads(self.environment["experiment"])
        except (KeyError, ValueError, RecursionError):
            found = None
        options = found.get("options") if isinstance(found, dict) else None
        tables = ("stream", "net", "train", "agenda", "strategy")
        whole = isinstance(options, dict) and all(isinstance(options.get(table), dict) for table in tables)
        if not isinstance(found, dict) or not whole or not isinstance(found.get("seeds"), list):
            raise UsageError(f"{self.path} is not a whole log: environment/experiment does not say what was run")
        return found

    def load(self, data_root: str | Path | None = None, device: str = "cpu") -> Any:
        """Return what the run has learned, as it was saved last, as a `cl_engine.learners.Learner`. Imports torch.

        ``data_root`` says where its data are; left out: `$CL_DATA_ROOT`.

        Raises:
            UsageError: if nothing was saved, or data or plug-ins of the run are not there.
        """
        # by name, as all that computes stands on floors above this one, which reads logs without torch
        return importlib.import_module("cl_engine.learners").load(self, data_root, device)

    @cached_property
    def metrics(self) -> dict[str, LoggedMetric]:
        """The metrics that the agenda asked for (``agenda.metrics``), by name; empty in logs that have none."""
        return metrics_in(self)

    def metric(self, name: str) -> np.ndarray:
        """Return a metric of the agenda as R is: ``[E, T, S]`` of answers, NaN where there was no test; ``[S]`` of scores.

        Raises:
            UsageError: if the log has no such metric.
        """
        return values_of(self, name)

    def metric_sums(self, name: str, evaluation: int | None = None) -> dict[int, np.ndarray]:
        """Return the sums ``[S, K]`` that a metric is a function of, by task, in one evaluation; left out: the last that has any.

        Raises:
            UsageError: if the log has no such metric.
        """
        return sums_of(self, name, evaluation)

    @cached_property
    def learned(self) -> np.ndarray:
        """The experience at which each task was learned first, −1 if not yet; ``[T]``."""
        first = np.full(self.results.sizes["task"], -1)
        for step, task in reversed(list(enumerate(self.results["experience_task"].values))):
            if task < len(first):  # one that was learned and never tested has no place yet
                first[task] = step
        return first

    @cached_property
    def tests_of_all(self) -> np.ndarray:
        """Which evaluations tested all tasks met ``[E]``; of several measures R tells it, as no score is over all of them."""
        found = self.results
        if len(self.measures) < 2:
            return np.asarray(np.isfinite(found["acc"].values).any(axis=1))
        steps, first = found["evaluation_step"].values[:, None], self.learned
        met = (first >= 0) & (first <= steps)
        tested = np.isfinite(found["score"].values).any(axis=2)
        return np.asarray((tested | ~met).all(axis=1) & met.any(axis=1))

    @cached_property
    def forward_transfer(self) -> np.ndarray:
        """Forward transfer by task ``[T, S]``: its score just before it was learned less the untrained one, more is better.

        NaN for the first task, and without ``agenda.evaluate_ahead``. The mean over tasks is FWT.
        """
        steps = self.results["evaluation_step"].values
        ways = np.array([1 if measure.higher else -1 for measure in self.task_measures])[:, None]
        return np.asarray(ways * forward_transfer_by_task(self.scores, steps, self.learned))

    __repr__ = in_a_line

    def _repr_html_(self) -> str:
        """Return a small table of what the run is and has come to, for notebooks."""
        return card(self)

    @property
    def final(self) -> xr.Dataset | None:
        """The scores of the last evaluation that tested all tasks met; None if there is none yet."""
        measured = np.flatnonzero(self.tests_of_all)
        return self.results.isel(evaluation=int(measured[-1])) if len(measured) else None

    def validated(self, score: str = "acc") -> np.ndarray | None:
        """Return a score on validation rows at the last test of all tasks met ``[S]``; None where it was not measured."""
        if self.validation is None or self.final is None or score not in self.validation:
            return None
        values = np.asarray(self.validation[score].values[int(self.final["evaluation"])])
        return values if np.isfinite(values).any() else None

    @property
    def tested(self) -> bool:
        """Whether a test after training was brought to its end, be it of some tasks only."""
        return bool((self.results["seconds"].sel(phase="evaluate") > 0).any())
