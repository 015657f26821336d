"""The strategy of a run as it was saved last, and the stream it has learned from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.checkpoints.store import Store, saved
from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.metrics.running import Ledger
from cl_engine.results.code import code_changed_since, code_in
from cl_engine.results.run import Run
from cl_engine.runs.devices import resolved_device
from cl_engine.runs.run_folder import CHECKPOINT
from cl_engine.runs.scenario import Scenario
from cl_engine.strategy import Strategy

LOG = logging.getLogger("cl_engine")


@dataclass(frozen=True)
class SavedStrategy:
    """A strategy with the state of a run's last save.

    >>> from cl_engine.results import open_run
    >>> from cl_engine.testing import small
    >>> found = saved_strategy(open_run(Experiment.of(small.scenario(), "finetune").run(Path("run"), device="cpu")))
    >>> found.tasks, found.strategy.name()
    ((0, 1, 2), 'finetune')

    Attributes:
        experiment: what was run.
        stream: what it has learned from.
        strategy: the strategy, its state in place.
        tasks: the tasks it had learned, in order of their numbers.
        stopped: places of the seeds that were ended early, as their loss was not finite.
    """

    experiment: Experiment
    stream: Stream
    strategy: Strategy
    tasks: tuple[int, ...]
    stopped: frozenset[int]


def experiment_of(
    run: Run, seeds: Sequence[int] | None = None, settings: Mapping[str, Any] | None = None
) -> Experiment:
    """Return the experiment that a log is of, with other seeds and settings where they are given."""
    said = run.experiment
    tables = {**said["options"], "strategy": {said["strategy"]: said["options"]["strategy"]}}
    own = (Path(told["file"]).parent for told in (code_in(run) or {}).values() if "package" not in told)
    beside = str(next(own, ""))  # plug-ins are looked for where they were found
    scenario = Scenario.of(said["scenario"], tables, run.environment.get("scenario", ""), folder=beside)
    scenario = replace(scenario, logged=True)
    return Experiment.of(scenario, said["strategy"], tuple(said["seeds"] if seeds is None else seeds), **settings or {})


@torch_defaults()
def saved_strategy(run: Run, data_root: str | Path | None = None, device: str = "cpu") -> SavedStrategy:
    """Return the strategy of a run, finished or stopped, as it was saved last.

    Raises:
        UsageError: if nothing was saved, or data or plug-ins of the run are not there.
    """
    where = resolved_device(device)
    for file in code_changed_since(run):
        LOG.warning("%s has changed since the run: what it learned is read by the new text", file)
    experiment = experiment_of(run)
    root = None if data_root is None else Path(data_root)
    stream = experiment.stream(where, root)
    found = _checkpoint(run, stream.device)
    strategy = experiment.build_strategy(stream, experiment.backbone(stream, root))
    strategy.targets = None if stream.asks_classes else stream.target
    strategy.n_tasks, strategy.state = stream.n_tasks, found["strategy"]
    ledger = Ledger.restored(found["ledger"])
    tasks = tuple(np.flatnonzero(ledger.first_learned >= 0).tolist())
    return SavedStrategy(experiment, stream, strategy, tasks, frozenset(ledger.stopped))


def _checkpoint(run: Run, device: torch.device) -> dict[str, Any]:
    store = Store(run.path.parent / CHECKPOINT)
    found = saved(store, device) if store.exists() else None
    if found is None:
        raise UsageError(f"there is no checkpoint beside {run.path}: answers need what was learned")
    if not all(isinstance(found.get(key), dict) for key in ("strategy", "ledger")):
        raise UsageError(f"{store.path} is not the checkpoint of a run: it must hold strategy and ledger")
    wanted = hashlib.sha256(run.environment["experiment"].encode()).hexdigest()[:16]
    if str(found.get("experiment", wanted)).partition(".")[0] != wanted:  # it was not always there
        raise UsageError(f"{store.path} is of another experiment than {run.path} beside it")
    return found
