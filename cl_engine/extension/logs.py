"""Copies of logs, brought to where their checkpoints are, for their rows to be taken from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.loggers.recorder import JOURNAL, Recorder
from cl_engine.results.log_file import LOG_NAME
from cl_engine.results.run import Run

TAKEN = ".taken_over"  # the folders of copies begin so


@contextmanager
def up_to_date(run: Run, folder: Path, step: int, stream: Stream) -> Iterator[h5py.File]:
    """Open a copy, in ``folder``, of the log of a run whose checkpoint is of the experience ``step``; in the end it goes.

    What its journal holds is in it, rows after the checkpoint's are not, and it has all that logs of this version have.

    Raises:
        UsageError: if the log is damaged, or counts memory by the rule of before format 1.5.
    """
    place = Path(tempfile.mkdtemp(prefix=f"{TAKEN}-", dir=folder))
    try:
        for name in (LOG_NAME, JOURNAL):
            if (run.path.parent / name).exists():
                shutil.copyfile(run.path.parent / name, place / name)
        recorder = Recorder(place, [int(seed) for seed in run.results["seed"].values], stream)
        try:
            recorder.resume(step)
        finally:
            recorder.close()
        if recorder.counts_all:
            raise UsageError(
                f"{run.path} was begun before format 1.5, when memory was counted by another rule, and the new log would hold "
                "both: run it anew (`run`)"
            )
        with h5py.File(place / LOG_NAME, "r") as file:
            yield file
    finally:
        shutil.rmtree(place, ignore_errors=True)
