"""The log of a run: one HDF5 file, published whole. Format: see docs/log-format.md."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from cl_engine import events
from cl_engine.core.files import need_room, replace
from cl_engine.core.text import encodable
from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.loggers import columns
from cl_engine.loggers.journal import Block, Journal
from cl_engine.loggers.layout import create_memory, create_of_tasks, empty_log, set_texts
from cl_engine.loggers.matrix import Matrix, together
from cl_engine.loggers.tables import APART, grow
from cl_engine.loggers.validation_matrix import ValidationMatrix
from cl_engine.results.log_file import FORMAT, LOG_NAME, MEMORY_RULE

FORMAT_VERSION = "2.2"
WORKING, JOURNAL = ".log.working.h5", ".log.journal"
FLUSHED = 4 * 2**20  # most bytes of rows and cells kept in memory
PUBLISHED = 0.002  # share of the time that may go into publishing …
LATEST = 60.0  # … but for a log that has been waiting for this many seconds …
AT_MOST = 0.02  # … and never more than this share
ROOM = 2**20  # bytes that one more save may take at most, beside its rows and cells
OF_A_ROW = 256  # most bytes
OF_TESTS = ("curves", "stability")
PHASES = ("learn", "evaluate", "save")


class Recorder:
    """Writes events to a private working file, and from time to time publishes a whole copy of it.

    A reader always finds a complete file under the run's name and never meets the writer. What is saved in between goes to
    a journal, from which a run that was killed goes on; it is kept in memory too, and written to the working file when
    that is published, or when there is much of it.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> recorder = Recorder(Path("."), [0], Experiment.of(small.scenario(), "finetune").stream())
    >>> recorder.begin({"strategy": "finetune", "scenario": "small", "run_id": "1"}, {})
    >>> recorder.publish("stopped"); recorder.close()
    >>> recorder.path.exists()
    True
    """

    def __init__(self, folder: Path, seeds: list[int], stream: Stream) -> None:
        self.path, self.working = folder / LOG_NAME, folder / WORKING
        self.seeds, self.stream = seeds, stream
        self.tables = columns.all_tables()
        self.matrix, self.counted = Matrix(len(seeds), stream.most_sums), stream.only_accuracy
        self.validation = ValidationMatrix(self.matrix)
        self.journal = Journal(folder / JOURNAL)
        self.journaled: list[Block] = []  # and not yet in the working file
        self.published, self.publishing = -math.inf, 0.0  # when it was last, and how long it took
        self.rows = 0  # not yet in the working file
        self.training_rows, self.training_flops, self.saving_midway = 0, 0.0, 0.0
        self.next_event = 0
        self.untrained: set[tuple[int, str]] = set()  # tasks, and metrics of them before training, of a resumed log
        self.counts_all = False  # as logs begun before format 1.5 do
        self.torn = False  # whether the working file has been left in the middle of a write

    def begin(self, attributes: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Start a new log with these root attributes and scalar strings about the environment."""
        self.working.write_bytes(empty_log(self.seeds, PHASES, self.stream))
        with h5py.File(self.working, "r+", libver=("v110", "v110")) as file:
            file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "status": "running"})
            file.attrs.update({name: encodable(text) for name, text in attributes.items()})
            file.attrs.update({"NX_class": "NXroot", "default": "results", "created": _now(), "updated": _now()})
            file.attrs[MEMORY_RULE] = "all but what follows from the seeds"
            set_texts(file.create_group("environment"), environment)

    def resume(self, step: int, environment: Mapping[str, str] | None = None) -> None:
        """Go on from the published log and its journal, without the rows of experiences after ``step``.

        ``environment`` are texts that take the place of those the log was begun with, or are added to them.
        """
        shutil.copyfile(self.path, self.working)
        self.complete()
        with h5py.File(self.working, "r", libver=("v110", "v110")) as file:
            since = self.journal.blocks(file.attrs["updated"])
        for lists, cells in since:
            self.journaled.append((lists, cells))
            self.rows += sum(map(len, lists["tables"].values()))
            self.matrix.cells += len(cells)
            if self._kept() > FLUSHED:
                self._write("running")
        if self.journaled:
            self._write("running")
        with h5py.File(self.working, "r+", libver=("v110", "v110")) as file:
            file.attrs["status"] = "running"
            set_texts(file["environment"], environment or {})
            results = file["results"]
            if len(results["experience"]) <= step or (step >= 0 and step not in results["evaluation_step"][:]):
                raise UsageError(
                    f"{self.path} and its journal end before experience {step}, which the checkpoint is of: they are damaged "
                    "or not from here; --fresh runs it again from the start"
                )
            kept = int(np.count_nonzero(results["evaluation_step"][:] <= step))
            grow(results, "evaluation", kept)
            grow(results, "experience", step + 1)
            for table in self.tables.values():
                table.truncate(file, step)
            self.untrained = columns.untrained_metrics(file)
            numbers = file["events/event"]
            self.next_event = int(numbers[-1]) + 1 if len(numbers) else 0
        self.publish("running")  # what follows is journaled from here

    def complete(self) -> None:
        """Give the working file what logs of older formats do not have."""
        with h5py.File(self.working, "r+", libver=("v110", "v110")) as file:
            results, self.counts_all = file["results"], MEMORY_RULE not in file.attrs
            if self.counts_all and APART not in results:
                create_memory(results, APART, "none: this log counts all that the state holds")
            create_of_tasks(results)
            for table in self.tables.values():
                if table.name not in file:
                    if not table.optional:
                        table.create(file)
                elif table.complete(file) and table.name in OF_TESTS:
                    columns.fill_scores(file[table.name])

    def __call__(self, event: events.Event) -> None:
        """Take in an event."""
        match event:
            case events.Evaluated():  # first, as there are many
                self.matrix.cell(event)
            case events.ScoresReused():
                self.matrix.unchanged(event)
            case events.EpochEnded():
                self.training_flops += event.flops
                for seed, loss in zip(self.seeds, event.loss, strict=True):
                    where = (event.step, event.task_id, event.fit, event.epoch)
                    self._add("epochs", (*where, seed, loss, event.seconds))
            case events.OnlineScored():
                for seed, score in zip(self.seeds, event.score, strict=True):
                    where = (event.step, event.task_id, event.fit, event.epoch)
                    self._add("online", (*where, event.batch, seed, event.rows, score))
            case events.CurvePoint() | events.EarlierTaskTested():
                table = "curves" if isinstance(event, events.CurvePoint) else "stability"
                counted = self.stream.target(event.task_id).counts_answers
                for seed, score, sums in zip(self.seeds, event.score, event.sums, strict=True):
                    point = (event.step, event.task_id, event.batch, event.epoch)
                    counts = tuple(map(int, sums)) if counted and not math.isnan(score) else (0, 0)
                    self._add(table, (*point, seed, *counts, score, event.seconds))
            case events.GuessScored():
                self.matrix.guess(event)
            case events.TaskStarted():
                self._check(event.task_id)
                self.training_rows, self.training_flops, self.saving_midway = event.rows, 0.0, 0.0
            case events.TaskLearned():
                event = together(event) if self.counts_all else event
                total = sum(event.memory.values())
                row = (event.step, event.task_id, self.training_rows, total, self.training_flops, event.flops)
                self._add("experiences", (*row, event.seconds))
                self.matrix.learned(event)
                if self.saving_midway:
                    self.matrix.seconds(event.step, "save", self.saving_midway)
            case events.ValidationScored():
                self.validation.scored(event)
            case events.Scored():
                self.matrix.scored(event)
            case events.Saving():
                self.save()
            case events.Saved():
                if event.midway:  # the experience has no row yet
                    self.saving_midway += event.seconds
                else:
                    self.matrix.seconds(event.step, "save", event.seconds + self.saving_midway)
            case events.StreamEnded():
                self.publish("finished")
            case events.Transferred():
                for row, outcomes in columns.transfer_rows(event, self.seeds):
                    self._add("transfers", row)
                    self.tables["outcomes"].rows += outcomes
                    self.rows += len(outcomes)
            case events.MetricScored() if event.step >= 0 or (event.task_id, event.metric) not in self.untrained:
                for table, row in columns.metric_rows(event, self.seeds):
                    self._add(table, row)
            case events.UnitsDiagnosed():
                for row in columns.diagnostic_rows(event, self.seeds):
                    self._add("diagnostics", row)
            case events.StrategyEvent():
                self._strategy_event(event)
        if self._kept() > FLUSHED:
            self._append()
            self._write("running")

    def save(self) -> None:
        """Bring all rows to the disk: into the published log, or into the journal while it is too early to publish again."""
        pause = max(min(self.publishing / PUBLISHED, LATEST), self.publishing / AT_MOST)
        if time.monotonic() < self.published + pause:
            self._append()
            self.journal.sync()
        else:
            self.publish("running")

    def publish(self, status: str) -> None:
        """Bring the working file up to date and put a copy of it in the place of the published log."""
        began = time.monotonic()
        self._write(status)
        part = self.path.with_name(LOG_NAME + ".part")
        shutil.copyfile(self.working, part)
        replace(part, self.path)
        self.journal.begin(self.updated)
        self.published = time.monotonic()
        self.publishing = self.published - began

    def close(self) -> None:
        """Throw the working file away; the published log, with its journal, is what remains."""
        self.working.unlink(missing_ok=True)

    def _check(self, task: int) -> None:
        """Refuse a task that the log has no arrays for: what a stream without end says of its targets may not be all."""
        target = self.stream.target(task)
        if len(target.sum_names) > self.matrix.sums or (self.counted and not target.counts_answers):
            raise UsageError(
                f"task {task} is measured by {target.measure.name} ({len(target.sum_names)} sums), which no target that the "
                "stream's property `targets` names is: let it name all"
            )

    def _strategy_event(self, event: events.StrategyEvent) -> None:
        # what takes no part in equality (durations) has a column of its own, so that logs of equal runs are equal but for it
        seconds = float(getattr(event, "seconds", math.nan))
        part = str(getattr(event, "part", ""))
        for fact in fields(event):
            if fact.name in ("step", "part") or not fact.compare:
                continue
            value = getattr(event, fact.name)
            pairs = zip(self.seeds, value, strict=True) if isinstance(value, tuple) else [(-1, value)]
            for seed, number in pairs:
                row = (self.next_event, event.step, type(event).__name__, fact.name, part, seed, float(number), seconds)
                self._add("events", row)
        self.next_event += 1

    def _add(self, table: str, row: tuple[object, ...]) -> None:
        self.tables[table].rows.append(row)
        self.rows += 1

    def _append(self) -> None:
        """Append what is new to the journal, if there is a published log that it can go on from."""
        if self.published == -math.inf:
            return
        self._need_room()
        block = self._new()
        # kept first, so that what a full disk refuses is not lost to the log of a run that failed
        self.journaled.append(block)
        self.journal.append(*block)

    def _write(self, status: str) -> None:
        """Write all that the working file does not have yet; one that could not be written to whole is never published."""
        if self.torn:
            raise OSError(f"{self.working} could not be written to whole")
        self._need_room()
        for lists, cells in (*self.journaled, self._new()):
            self.matrix.take_up(lists, cells)
            self.validation.take_up(lists)
            for name, rows in lists["tables"].items():
                table = self.tables[name]
                older = name in OF_TESTS and len(rows[0]) < len(table.columns)
                table.rows += map(columns.with_score if older else tuple, rows)
        self.journaled.clear()
        self.updated, self.torn = _now(), True
        with h5py.File(self.working, "r+", libver=("v110", "v110")) as file:
            for table in self.tables.values():
                table.flush(file)
            self.matrix.flush(file["results"], self.stream)
            self.validation.flush(file["results"], self.stream)
            file.attrs["status"], file.attrs["updated"] = status, self.updated
        self.rows, self.torn = 0, False

    def _new(self) -> Block:
        """Return what has come since it was asked for last."""
        lists, cells = self.matrix.taken()
        lists |= self.validation.taken()
        return {**lists, "tables": {name: table.taken() for name, table in self.tables.items() if table.rows}}, cells

    def _kept(self) -> int:
        """Return the bytes that what the working file does not have yet takes."""
        return OF_A_ROW * self.rows + self.matrix.bytes + self.validation.bytes

    def _need_room(self) -> None:
        need_room(self.path.parent, ROOM + self._kept())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
