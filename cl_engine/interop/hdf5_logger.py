"""The HDF5 log of this engine, written from a plain Avalanche script."""

from __future__ import annotations

import atexit
import json
import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.state import bytes_by_part
from cl_engine.errors import UsageError
from cl_engine.interop.callbacks import of_batch, of_pass
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.script_log import ScriptLog, ScriptStream, refused
from cl_engine.interop.script_records import UNBOUNDED, Records
from cl_engine.interop.snapshot import held_bytes
from cl_engine.interop.task_assignment import content_of
from cl_engine.results.log_file import LOG_NAME
from cl_engine.results.run import open_run
from cl_engine.runs.run_folder import RunFolder
from cl_engine.strategy import Strategy

with quietly():
    from avalanche.benchmarks import OnlineCLExperience
    from avalanche.core import SupervisedPlugin
    from avalanche.logging import BaseLogger
    from avalanche.training.supervised import JointTraining

LOG = logging.getLogger("cl_engine")


class Hdf5Logger(BaseLogger, SupervisedPlugin):  # type: ignore[misc]
    """Logs an Avalanche run in this engine's format, so that `show` and `report` read it like any other.

    Hand it to ``EvaluationPlugin(…, loggers=[logger])`` and evaluate on the test stream; it counts right answers itself and
    needs no metrics. Close it at the end, or use it in a ``with`` block. Loaded with a strategy from a checkpoint, it
    resumes the log as it was when the checkpoint was saved; closing the logger that the script made closes it.

    What is tested on its own is a task (`TaskAssignment`). An experience of Avalanche is one in the log, but pieces of an
    experience (online streams) are one together, and training that brings several tasks at once is one for each. A row
    of R is all that was tested between two of them. A test in the middle of training gives points of learning curves;
    it is part of the row if nothing was trained after it.

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
            memory: count what the strategy holds after every experience.
            fresh: replace a log that is there.

        Raises:
            UsageError: if there is a log of a finished run already, or the folder cannot be written to. A log that is not
                finished is refused when the first experience comes, as the strategy that wrote it may be loaded until then.
        """
        super().__init__()
        self.path = Path(folder)
        if fresh:
            RunFolder.cleared(self.path)
        if (self.path / LOG_NAME).exists() and not _is_resumable(self.path):
            raise refused(self.path)
        self._names = {"strategy": strategy, "scenario": scenario}
        self._seed, self._stream, self._counted = seed, stream, memory
        self._records = Records()
        self._experiment = ""
        self._log: ScriptLog | None = None
        self._lengths: dict[str, int] | None = None  # of the log when this logger was pickled
        self._strategy: Any = None
        self._inside = False  # whether `train` is running
        self._counts: dict[tuple[int, int | None], list[Any]] = {}
        self._others: set[str] = set()  # streams evaluated that R is not measured on

    # Called by Avalanche's EvaluationPlugin, with the strategy and the values of its metrics.

    def before_training(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """Training begins."""
        self._inside = True

    def before_training_exp(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An experience, or a piece of one, is about to be trained."""
        log, own = self._open(strategy), strategy.experience
        trained = strategy._experiences if isinstance(strategy, JointTraining) else [own]
        contents = [content_of(experience) for experience in trained]
        if isinstance(own, OnlineCLExperience):
            origin = getattr(own.origin_experience, "logging", lambda: None)()
            piece = UNBOUNDED if origin is None else (origin.origin_stream.name, origin.current_experience)
            of = None if origin is None else own.sub_stream_length
            self._records.begin(contents, self._memory, piece, of, own.is_first_subexp)
        else:
            self._records.begin(contents, self._memory)
        self._write(log)
        self._counts = {}
        self._began = time.perf_counter()

    def before_training_epoch(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An epoch begins."""
        self._losses: list[tuple[Tensor, int]] = []
        self._epoch_began = time.perf_counter()

    def after_training_iteration(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """A batch was learned."""
        self._losses.append(of_batch(strategy))
        self._records.batch()
        self._open(strategy).publish(
            due_only=True
        )  # training may take long: what was tested before it is seen meanwhile

    def after_training_epoch(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An epoch is over."""
        loss = of_pass(self._losses) if self._losses else float(strategy.loss)
        self._records.epoch(loss, strategy.train_epochs, time.perf_counter() - self._epoch_began)
        self._write(self._open(strategy))

    def after_training_exp(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An experience, or a piece of one, was trained."""
        self._records.end(time.perf_counter() - self._began, self._memory)
        self._write(self._open(strategy))

    def after_training(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """Training is over."""
        self._inside = False

    def before_eval(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An evaluation begins."""
        self._open(strategy)
        self._counts = {}
        self._eval_began = time.perf_counter()

    def before_eval_exp(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """A test experience is about to be answered."""
        if self._is_watched(strategy.experience):
            self._records.tasks.meet(strategy.experience)
        else:
            self._others.add(strategy.experience.origin_stream.name)

    def after_eval_iteration(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """A batch was answered."""
        right = _right(strategy)
        if right is None or not self._is_watched(strategy.experience):
            return
        index = strategy.experience.current_experience
        parts: list[tuple[int | None, Tensor]] = [(None, right)]
        if self._records.tasks.is_mixed(index):
            labels = strategy.mb_task_id
            parts = [(int(label), right[labels == label]) for label in labels.unique()]
        for label, rows in parts:
            held = self._counts.setdefault((index, label), [0, 0])
            held[0], held[1] = held[0] + rows.sum(), held[1] + len(rows)

    def after_eval(self, strategy: Any, metrics: Any, **more: Any) -> None:
        """An evaluation is over: a row of R, or points of learning curves."""
        if self._counts:
            counts = {where: (int(right), total) for where, (right, total) in self._counts.items()}
            seconds, log = time.perf_counter() - self._eval_began, self._open(strategy)
            self._records.tested(counts, self._inside, seconds, self._memory)
            self._write(log)
            log.publish(due_only=True)

    def close(self, status: str = "finished") -> None:
        """Write what is left and end the log; a reader finds it complete."""
        writer = _WRITING.pop(self.path.resolve(), None)
        if writer is not None:
            writer._close(status)

    def __enter__(self) -> Hdf5Logger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("finished" if error is None else "failed")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a checkpoint of the strategy keeps: where the log stands, and not the open file."""
        lengths = self._lengths if self._log is None else self._log.lengths()
        return {**self.__dict__, "_log": None, "_strategy": None, "_lengths": lengths}

    def _open(self, strategy: Any) -> ScriptLog:
        """Return the log, begun or resumed when the first thing happens."""
        self._strategy = strategy
        if self._log is None:
            self._experiment = self._experiment or json.dumps(self._described(strategy), sort_keys=True, indent=1)
            stream = ScriptStream(self._records.tasks.names, strategy.device)
            self._log = ScriptLog(self.path, self._experiment, stream, self._lengths)
            _WRITING[self.path.resolve()] = self
        return self._log

    def _write(self, log: ScriptLog) -> None:
        told, self._records.told = self._records.told, []
        for event in told:
            log.write(event)

    def _close(self, status: str) -> None:
        log, self._log = self._log, None
        if log is None:
            return
        self._records.finish(status == "finished", self._memory)
        self._write(log)
        log.close(status)
        if not self._records.rows.count and self._others:
            LOG.warning(
                "%s: nothing was evaluated on the stream '%s', only on %s: give stream=… the name of one",
                *(self.path, self._stream, ", ".join(sorted(self._others))),
            )

    def _memory(self) -> dict[str, int]:
        """Return the bytes that the strategy holds, by part: ours counts its own, Avalanche's objects are walked."""
        if not self._counted or self._strategy is None:
            return {}
        ours = getattr(self._strategy, "strategy", None)
        if isinstance(ours, Strategy):
            return bytes_by_part(ours.state)
        with quietly():
            return held_bytes(self._strategy)

    def _described(self, strategy: Any) -> dict[str, Any]:
        options = {
            "stream": {"name": "avalanche script"},
            "net": {"name": type(strategy.model).__name__},
            "train": {"epochs": strategy.train_epochs, "batch": strategy.train_mb_size},
            "agenda": {"curve_epochs": 0, "curve_batches": 0, "eval_every": strategy.eval_every},
            "strategy": {},
        }
        names = {name: given or type(strategy).__name__ for name, given in self._names.items()}
        return {**names, "seeds": [self._seed], "options": options}

    def _is_watched(self, experience: Any) -> bool:
        # benchmarks made online call their other streams original_…
        return experience.origin_stream.name in (self._stream, f"original_{self._stream}")


_WRITING: dict[Path, Hdf5Logger] = {}  # which logger writes to which folder: a script may hold another one for it


@atexit.register
def _publish_all() -> None:
    """Publish what scripts leave that close nothing."""
    for logger in _WRITING.values():
        if logger._log is not None:
            logger._log.publish()


def _is_resumable(path: Path) -> bool:
    """Return whether the log there is of a run that may be resumed."""
    try:
        return open_run(path).status != "finished"
    except UsageError:
        return False


def _right(strategy: Any) -> Tensor | None:
    """Return which rows of a batch were answered right, as Avalanche's accuracy counts them; None: these are no classes."""
    answers, truth = strategy.mb_output, strategy.mb_y
    if not isinstance(answers, Tensor) or not isinstance(truth, Tensor) or truth.is_floating_point():
        return None
    answers, truth = (torch.max(rows, 1)[1] if rows.ndim > 1 else rows for rows in (answers, truth))
    return answers == truth if answers.shape == truth.shape and truth.ndim == 1 else None
