"""The HDF5 log of this engine, written from a plain Avalanche script."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine import events
from cl_engine.core.state import bytes_by_part
from cl_engine.errors import UsageError
from cl_engine.interop.callbacks import of_batch, of_pass
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.snapshot import taken
from cl_engine.metrics.running import Ledger
from cl_engine.results.log_file import LOG_NAME
from cl_engine.runs.run_folder import RunFolder
from cl_engine.strategy import Strategy

with quietly():
    from avalanche.core import SupervisedPlugin
    from avalanche.logging import BaseLogger


class _Stream:
    """What the recorder asks of a stream, answered from what has been met."""

    n_tasks: int | None = None
    n_steps: int | None = None

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.names: list[str] = []

    def describe(self) -> dict[str, str | int]:
        return {"benchmark": "of an Avalanche script", "avalanche": version("avalanche-lib")}

    def name_of(self, task_id: int) -> str:
        return self.names[task_id] if task_id < len(self.names) else f"task {task_id}"


class Hdf5Logger(BaseLogger, SupervisedPlugin):  # type: ignore[misc]
    """Logs an Avalanche run in this engine's format, so that `show` and `report` read it like any other.

    Hand it to ``EvaluationPlugin(…, loggers=[logger])`` and evaluate on the test stream after every experience; it counts
    right answers itself and needs no metrics. Close it at the end, or use it in a ``with`` block. Test experiences with
    the same task label are one task, where there are several labels; else each is its own. An evaluation while an
    experience is being trained gives a point of its learning curve.

    >>> Hdf5Logger("run", strategy="mine").path.name
    'run'
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        strategy: str | None = None,
        scenario: str = "avalanche",
        seed: int = 0,
        stream: str = "test",
        memory: bool = True,
        fresh: bool = False,
    ) -> None:
        """Log to ``folder/log.h5``; names and seed are for the reader of the log.

        Args:
            folder: the run's folder; made if it is not there.
            strategy: the strategy's name; left out: that of its class.
            scenario: the scenario's name: runs of one scenario are compared.
            seed: the seed that the script set.
            stream: name of the stream that R is measured on.
            memory: count what the strategy holds after every experience, which reads the rows of its buffers.
            fresh: replace a log that is there.

        Raises:
            UsageError: if there is a log already, or the folder cannot be written to.
        """
        super().__init__()
        self.path = Path(folder)
        if fresh:
            RunFolder.cleared(self.path)
        if (self.path / LOG_NAME).exists():
            raise UsageError(f"{self.path} holds a log already: give another folder, or fresh=True to replace it")
        self._names = {"strategy": strategy, "scenario": scenario}
        self._seed, self._watched = seed, stream
        self._stream, self._ledger = _Stream(), Ledger(1)
        self._tasks: dict[int, int] = {}
        self._folder: RunFolder | None = None
        self._recorder: Any = None
        self._step, self._batch, self._epoch = -1, 0, 0
        self._task, self._inside, self._memory = 0, False, memory
        self._counts: dict[int, list[Any]] = {}

    # Called by Avalanche's EvaluationPlugin, with the strategy and the values of its metrics.

    def before_training_exp(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An experience is about to be trained."""
        self._open(strategy)
        self._step, self._batch, self._epoch = self._step + 1, 0, 0
        self._task = self._task_of(strategy.experience)
        self._inside, self._began = True, time.perf_counter()
        rows = len(strategy.experience.dataset)
        self._tell(events.TaskStarted(step=self._step, task_id=self._task, rows=rows))

    def before_training_epoch(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """Begin an epoch."""
        self._losses: list[tuple[Tensor, int]] = []
        self._pass_began = time.perf_counter()

    def after_training_iteration(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """A batch was learned."""
        self._losses.append(of_batch(strategy))
        self._batch += 1

    def after_training_epoch(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """End an epoch."""
        loss = of_pass(self._losses) if self._losses else float(strategy.loss)
        seconds = time.perf_counter() - self._pass_began
        where = {"step": self._step, "task_id": self._task, "epoch": self._epoch}
        self._tell(events.EpochEnded(fit=0, epochs=strategy.train_epochs, loss=(loss,), seconds=seconds, **where))
        self._epoch += 1

    def after_training_exp(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An experience was trained: what the strategy holds now is its memory."""
        self._inside = False
        seconds = time.perf_counter() - self._began
        self._ledger.learned(self._step, self._task)
        held = _bytes(strategy) if self._memory else {}
        self._tell(events.TaskLearned(step=self._step, task_id=self._task, memory=held, seconds=seconds))

    def before_eval(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An evaluation begins."""
        self._open(strategy)
        self._counts = {}
        self._eval_began = time.perf_counter()

    def after_eval_iteration(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """A batch was answered."""
        if strategy.experience.origin_stream.name != self._watched:
            return
        held = self._counts.setdefault(self._task_of(strategy.experience), [0, 0])
        held[0] = held[0] + (strategy.mb_output.argmax(dim=1) == strategy.mb_y).sum()
        held[1] += len(strategy.mb_y)

    def after_eval(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An evaluation is over: a row of R, or a point of the learning curve."""
        seconds = time.perf_counter() - self._eval_began
        if not self._counts:
            return
        if self._inside:
            self._curve_point(seconds)
            return
        row = self._ledger.row(self._step)
        for task, (correct, total) in sorted(self._counts.items()):
            right = int(correct)
            self._ledger.put(np.array([task]), np.array([[right]]), np.array([total]))
            where = {"step": self._step, "evaluation": row, "task_id": task}
            self._tell(events.Evaluated(**where, n_correct=(right,), n_total=total))
        scores = {name: tuple(values.tolist()) for name, values in self._ledger.scores().items()}
        self._tell(events.Scored(step=self._step, evaluation=row, seconds=seconds, **scores))
        self._recorder.publish("running")  # whole, as nothing takes the run up again from a journal

    def close(self, status: str = "finished") -> None:
        """Write what is left and end the log; a reader finds it complete."""
        if self._folder is None:
            return
        self._recorder.publish(status)
        self._recorder.close()
        self._folder.__exit__(None, None, None)
        self._folder = None

    def __enter__(self) -> Hdf5Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if error is None else "failed")

    def _open(self, strategy: Any) -> None:
        """Begin the log when the first thing happens."""
        if self._folder is not None:
            return
        name = self._names["strategy"] or type(strategy).__name__
        experiment = {
            "scenario": self._names["scenario"],
            "strategy": name,
            "seeds": [self._seed],
            "options": {
                "stream": {"name": "avalanche script"},
                "net": {"name": type(strategy.model).__name__},
                "train": {"epochs": strategy.train_epochs, "batch": strategy.train_mb_size},
                "agenda": {"curve_epochs": 0, "curve_batches": 0, "eval_every": strategy.eval_every},
                "strategy": {},
            },
        }
        self._stream.device = strategy.device
        self._folder = RunFolder(self.path, json.dumps(experiment, sort_keys=True, indent=1)).__enter__()
        texts = {"scenario": "# an Avalanche script", "command": " ".join(sys.argv)}
        attributes = {"strategy": name, "scenario": str(self._names["scenario"])}
        stream: Any = self._stream
        self._recorder = self._folder.recorder(stream, [self._seed], None, attributes, texts)

    def _tell(self, event: events.Event) -> None:
        self._recorder(event)

    def _curve_point(self, seconds: float) -> None:
        if self._task in self._counts:
            correct, total = self._counts[self._task]
            where = {"step": self._step, "task_id": self._task, "batch": self._batch, "epoch": self._epoch}
            self._tell(events.CurvePoint(n_correct=(int(correct),), n_total=total, seconds=seconds, **where))

    def _task_of(self, experience: Any) -> int:
        """Return the task of an experience; tasks are numbered as they are met."""
        index = experience.current_experience
        labels = getattr(experience, "task_labels", [0])
        key = min(labels) if _labelled(experience.origin_stream) and len(labels) == 1 else index
        if key not in self._tasks:
            self._tasks[key] = len(self._tasks)
            self._stream.names.append(f"experience {key}" if key == index else f"task label {key}")
        return self._tasks[key]


def _labelled(stream: Any) -> bool:
    """Return whether a stream's experiences have different task labels."""
    found = getattr(getattr(stream, "benchmark", None), "task_labels", None)
    if found is None:
        found = [getattr(experience, "task_labels", 0) for experience in getattr(stream, "exps", ())]
    return len({str(labels) for labels in found}) > 1


def _bytes(strategy: Any) -> dict[str, int]:
    """Return the bytes that a strategy holds, by part: ours counts its own, Avalanche's objects are walked."""
    ours = getattr(strategy, "strategy", None)
    if isinstance(ours, Strategy):
        return bytes_by_part(ours.state)
    with quietly():
        parts = taken(strategy).tensors
    return {part: sum(tensor.numel() * tensor.element_size() for tensor in held) for part, held in parts.items()}
