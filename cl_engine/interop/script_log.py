"""The log file of a script that drives its own loop: begun, published, and resumed where a checkpoint was saved."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import torch

from cl_engine import events
from cl_engine.errors import UsageError
from cl_engine.loggers.recorder import AT_MOST, Recorder
from cl_engine.loggers.tables import grow
from cl_engine.nn.target import Target
from cl_engine.results.log_file import LOG_NAME
from cl_engine.runs.run_folder import RunFolder
from cl_engine.targets.classes import Classes

DIMENSIONS = ("evaluation", "experience", "task")


class SomeClasses(Classes):
    """Classes whose number is not known.

    >>> SomeClasses.of(classes=1).key
    '{"target": "classes"}'
    """

    @property
    def key(self) -> str:
        """The name alone."""
        return json.dumps({"target": "classes"})


class ScriptStream:
    """What the recorder asks of a stream, answered from what has been met.

    >>> ScriptStream(["experience 0"]).name_of(0)
    'experience 0'
    """

    n_tasks: int | None = None
    n_steps: int | None = None
    only_accuracy = True
    most_sums = 2

    def __init__(self, names: list[str], device: torch.device | None = None) -> None:
        self.names, self.device = names, device or torch.device("cpu")

    def describe(self) -> dict[str, str | int]:
        """Return what is said of the data."""
        return {"benchmark": "of an Avalanche script", "avalanche": version("avalanche-lib")}

    def target(self, task_id: int) -> Target:
        """Return what a task asks for: classes, of which a script does not say how many there are."""
        return SomeClasses.of(classes=1)

    def name_of(self, task_id: int) -> str:
        """Return the name of a task."""
        return self.names[task_id]

    def is_free(self, task_id: int) -> bool:
        """Return whether no person has to label a task: a script does not say."""
        return False


class ScriptLog:
    """The open log of a script, published whole, not more often than costs a fiftieth of the time.

    >>> import tempfile
    >>> experiment = {"scenario": "s", "strategy": "Naive", "seeds": [0], "options": {}}
    >>> log = ScriptLog(Path(tempfile.mkdtemp()), json.dumps(experiment), ScriptStream([]))
    >>> log.close("finished")
    >>> [file.name for file in log.path.glob("log*")]
    ['log.h5']
    """

    def __init__(
        self, path: Path, experiment: str, stream: ScriptStream, lengths: Mapping[str, int] | None = None
    ) -> None:
        """Begin a log, or resume the one there as it was when its ``lengths`` were taken.

        Raises:
            UsageError: if the log to begin is there already, or the log to resume is not, or is shorter.
        """
        self.path = path
        if lengths is None and (path / LOG_NAME).exists():
            raise refused(path)
        if lengths is not None and not (path / LOG_NAME).exists():
            raise UsageError(
                f"{path} holds no log, which the strategy that was loaded has written to: put {LOG_NAME} back"
            )
        self._folder = RunFolder(path, experiment).__enter__()
        self._unpublished = True
        try:
            said = json.loads(experiment)
            any_stream: Any = stream  # only what the recorder asks of a stream
            if lengths is None:
                attributes = {"strategy": said["strategy"], "scenario": said["scenario"]}
                texts = {"scenario": "# an Avalanche script", "command": " ".join(sys.argv)}
                self._recorder = self._folder.recorder(any_stream, said["seeds"], None, attributes, texts)
            else:
                self._recorder = Recorder(path, said["seeds"], any_stream)
                self._cut(lengths)
        except BaseException:
            self._folder.__exit__(None, None, None)
            raise

    def write(self, event: events.Event) -> None:
        """Take in an event."""
        self._recorder(event)
        self._unpublished = True

    def publish(self, due_only: bool = False) -> None:
        """Bring all that was written to the log that readers see; with ``due_only``, only if the last time is long ago.

        Whole, not to the journal, which a script does not resume from.
        """
        early = time.monotonic() < self._recorder.published + self._recorder.publishing / AT_MOST
        if self._unpublished and not (due_only and early):
            self._recorder.publish("running")
            self._unpublished = False

    def lengths(self) -> dict[str, int]:
        """Publish, and return how long each table and dimension is: what `ScriptLog` resumes from."""
        self.publish()
        with h5py.File(self._recorder.working, "r", libver=("v110", "v110")) as file:
            found = {name: len(file["results"][name]) for name in DIMENSIONS}
            return found | {name: len(file[name]["row"]) for name in self._recorder.tables if name in file}

    def close(self, status: str) -> None:
        """Publish with this status and let go of the folder."""
        self._recorder.publish(status)
        self._recorder.close()
        self._folder.__exit__(None, None, None)

    def _cut(self, lengths: Mapping[str, int]) -> None:
        """Drop what was written after the lengths were taken: the script does it again."""
        recorder = self._recorder
        shutil.copyfile(recorder.path, recorder.working)
        recorder.complete()
        with h5py.File(recorder.working, "r+", libver=("v110", "v110")) as file:
            dimensions = {name: (file["results"], name, None) for name in DIMENSIONS}
            tables = {
                name: (file[name], "row", {column.name: 0 for column in table.columns})
                for name, table in recorder.tables.items()
                if name in file
            }
            for name, (group, dimension, over) in (dimensions | tables).items():
                kept = lengths.get(name, 0)  # none, where the table came later
                if len(group[dimension]) < kept:
                    raise UsageError(
                        f"{recorder.path} ends before the strategy that was loaded was saved: it is an older copy, or not "
                        "of this script"
                    )
                grow(group, dimension, kept, over)
        self.publish()


def refused(path: Path) -> UsageError:
    """Return the error that a log is there already."""
    return UsageError(
        f"{path} holds a log already: give another folder, or fresh=True to replace it, or load the strategy that wrote it "
        "before anything is trained or evaluated"
    )
