"""The nets of runs packed into a zoo: those of every task and seed, with their scores."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cl_engine.analysis.scores.references import last_scores
from cl_engine.errors import UsageError
from cl_engine.learners.learner import Learner, load
from cl_engine.learners.saving import written_whole
from cl_engine.metrics import matrix_scores
from cl_engine.results.run import Run
from cl_engine.results.zoo import COLUMNS, FORMAT, VERSION, Zoo, open_zoo

LOG = logging.getLogger("cl_engine")
ALL = -1  # the task of a net that answers all, as it is not told which


def pack(runs: Iterable[str | Path | Run], file: Path, data_root: str | Path | None = None) -> Zoo:
    """Write the nets of runs, finished or stopped, into a file, and return it opened; it is whole, or as it was before.

    Where the task is told, each task has a net; elsewhere all have one. A run whose rows decide what answers them is left out,
    which a warning says.

    Raises:
        UsageError: if a run cannot be loaded, there is no net in any, or the file cannot be written.
    """
    with written_whole(file) as part, h5py.File(part, "w") as made:
        made.attrs.update({"format": FORMAT, "format_version": VERSION})
        packing = _Packing(made)
        for run in runs:
            packing.add(load(run, data_root))
        packing.finish()
    return open_zoo(file)


class _Packing:
    """A zoo that is being written."""

    def __init__(self, file: h5py.File) -> None:
        self._file, self._nets = file, file.create_group("nets")
        self._groups: dict[str, h5py.Group] = {}
        self._runs: list[str] = []
        self._rows = 0

    def add(self, learner: Learner) -> None:
        """Add the nets of a run."""
        run, before, reasons = learner.run, self._rows, set[str]()
        scores = _scores(run)
        told: Sequence[int | None] = learner.tasks if learner.setting == "task" else (None,)
        for task in told:
            for seed in learner.seeds:
                try:
                    tensors = {name: tensor.numpy() for name, tensor in learner.state_dict(task, seed).items()}
                except UsageError as error:  # of some tasks it may be: those before them stay, and are of this run
                    if str(error) not in reasons:
                        LOG.warning("%s is left out: %s", run.path, error)
                    reasons.add(str(error))
                    continue
                facts: dict[str, float] = {"run": len(self._runs), "task": ALL if task is None else task, "seed": seed}
                answered = list(learner.tasks) if task is None else [task]
                place = learner.place_of(seed)
                facts |= {name: float(values[answered, place].mean()) for name, values in scores.items()}
                self._put(run.experiment["options"]["net"], tensors, facts)
        if self._rows > before:
            about = {"path": str(run.path), "run_id": run.attributes.get("run_id", "")}
            about |= {"strategy": run.strategy, "scenario": run.scenario, "experiment": run.environment["experiment"]}
            self._runs.append(json.dumps(about))

    def finish(self) -> None:
        """Write what is known at the end.

        Raises:
            UsageError: if there is no net.
        """
        if not self._rows:
            raise UsageError("there is no net in these runs that could be packed")
        self._file["runs"] = np.array(self._runs, dtype=h5py.string_dtype())

    def _put(self, net: dict[str, Any], tensors: dict[str, np.ndarray], facts: dict[str, float]) -> None:
        said = [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors.items()]
        numbers = np.concatenate([tensor.reshape(-1).astype(np.float32) for tensor in tensors.values()])
        group = self._group(json.dumps(net, sort_keys=True), json.dumps(said), len(numbers))
        for name, value in {**facts, "row": self._rows, "weights": numbers}.items():
            data = group[name]
            data.resize(len(data) + 1, axis=0)
            data[-1] = value
        self._rows += 1

    def _group(self, net: str, tensors: str, numbers: int) -> h5py.Group:
        key = net + tensors
        if key not in self._groups:
            group = self._nets.create_group(str(len(self._groups)))
            group.attrs.update({"net": net, "tensors": tensors})
            for name in COLUMNS:
                kind = "f8" if name.startswith("score") else "i8"
                group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(1024,))
            group.create_dataset(
                "weights", (0, numbers), "f4", maxshape=(None, numbers), chunks=(1, numbers), shuffle=True
            )
            self._groups[key] = group
        return self._groups[key]


def _scores(run: Run) -> dict[str, np.ndarray]:
    """Return the score of each task in the last test of it, and that right after it was learned first; ``[T, S]`` each."""
    steps = run.results["evaluation_step"].values
    return {"score": last_scores(run), "score_learned": matrix_scores.diagonal(run.scores, steps, run.learned)}
