"""One job of a sweep, done in this process: the same wherever it runs."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from cl_engine import events
from cl_engine.core.files import write
from cl_engine.data.stream import Stream
from cl_engine.errors import RunFailed, UsageError
from cl_engine.estimate import need
from cl_engine.experiment import Experiment
from cl_engine.results.log_file import LOG_NAME
from cl_engine.results.run import open_run
from cl_engine.runs.run_folder import RunFolder
from cl_engine.runs.signals import Stopped
from cl_engine.sweep.backend import Job, JobProgress, Outcome, Said
from cl_engine.sweep.combinations import restored
from cl_engine.sweep.folder import OUTPUT, PLAN, SweepFolder

HEARD_EVERY = 0.5  # seconds between two words about how far a run is
LOCK_PATIENCE = 60.0  # seconds in which a process that was told to stop lets go of its folder

Hear = Callable[[JobProgress], bool]


class Paused(Stopped):
    """The end of a run that has come as far as it was to go.

    >>> issubclass(Paused, Stopped)
    True
    """

    def __init__(self) -> None:
        Exception.__init__(self, "paused")
        self.signal = 0

    def __reduce__(self) -> tuple[type[Paused], tuple[int, ...]]:
        return type(self), ()


def run_job(job: Job, hear: Hear = lambda heard: False) -> Outcome:
    """Do a job in the sweep's folder, or, on a node that does not see it, in one of the node's own.

    Args:
        job: what to do.
        hear: told from time to time how far it is; what it returns says whether to stop.
    """
    if _seen(job):
        return _done(job, job.folder, hear)
    try:
        own = _private() / job.identity / job.name
    except UsageError as refused:
        return Outcome(job.name, "refused", str(refused))
    own.mkdir(parents=True, exist_ok=True)
    if not job.measure and job.begun and job.files is None and not (own / LOG_NAME).exists():
        return Outcome(job.name, "unseen")
    if job.files is not None and _learned(own) == 0:
        for name, content in job.files.items():
            write(own / name, content)
    outcome = _done(job, own, hear)
    kept = [LOG_NAME] if outcome.said == "finished" else RunFolder.to_go_on(own)
    files = {name: (own / name).read_bytes() for name in [OUTPUT, *kept] if (own / name).exists()}
    return Outcome(**{**vars(outcome), "files": files})


def _seen(job: Job) -> bool:
    """Return whether the sweep's folder is there, and is the same."""
    try:
        return bool((Path(job.sweep) / PLAN).exists() and SweepFolder(Path(job.sweep)).plan["id"] == job.identity)
    except UsageError:
        return False


def _private() -> Path:
    """Return this user's folder among temporary files, which nobody else may enter.

    Raises:
        UsageError: if another user has made what is there.
    """
    path = Path(tempfile.gettempdir()) / f"cl-engine-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)  # by itself: mkdir(parents=True) leaves parents open to all
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UsageError(f"{path} is a link or belongs to another user: remove it, or set TMPDIR")
    path.chmod(0o700)
    return path


def _learned(folder: Path) -> int:
    try:
        return int(open_run(folder).results.sizes["experience"])
    except (UsageError, OSError):
        return 0


def _done(job: Job, folder: Path, hear: Hear) -> Outcome:
    began, said, error = time.perf_counter(), "finished", ""
    about = {}
    torch.set_num_threads(job.threads)
    folder.mkdir(parents=True, exist_ok=True)
    with _output(folder / OUTPUT):
        try:
            experiment = restored(job.experiment)
            if job.measure:
                need(experiment, job.device, _root(job))  # what is imported and compiled on the way counts only once
                about = vars(need(experiment, job.device, _root(job)))
                about["memory"] = _peak() - _shared()
                said = "measured"
            else:
                _run(experiment, job, folder, hear)
        except Paused:
            said = "paused"
        except (Stopped, KeyboardInterrupt):
            said = "stopped"
        except UsageError as refused:
            said, error = "refused", str(refused)
        except RunFailed as failed:
            said, error = "failed", str(failed)
        except BaseException as failed:  # whatever a foreign strategy may raise
            traceback.print_exc()
            said, error = "failed", f"{type(failed).__name__}: {failed}"
    torch.cuda.empty_cache()  # the next job of this process has the GPU's memory, and so have other processes
    outcome: Said = said  # type: ignore[assignment]
    where = f"{socket.gethostname()}, process {os.getpid()}"
    return Outcome(job.name, outcome, error, time.perf_counter() - began, where, {**about, "peak": _peak()})


def _run(experiment: Experiment, job: Job, folder: Path, hear: Hear) -> None:
    def listeners(stream: Stream) -> list[Callable[[events.Event], None]]:
        return [_Reader(job, stream.n_steps, hear)]

    _wait_for(folder)
    experiment.run(
        folder,
        device=job.device,
        data_root=_root(job),
        listeners=listeners,
        command=job.command,
        accept_changes=job.accept_changes,
        progress=False,
    )


class _Reader:
    """Reads a run's events, says how far it is, and ceases to read where the run is to pause."""

    def __init__(self, job: Job, steps: int | None, hear: Hear) -> None:
        self.job, self.steps, self.hear = job, steps, hear
        self.said = 0.0

    def __call__(self, event: events.Event) -> None:
        """Take in an event."""
        if isinstance(event, events.TaskStarted) and self.job.until is not None and event.step >= self.job.until:
            raise Paused
        if time.monotonic() - self.said >= HEARD_EVERY:
            self.said = time.monotonic()
            if self.hear(JobProgress(self.job.name, event.step + isinstance(event, events.Scored), self.steps)):
                raise Stopped(signal.SIGTERM)


def _wait_for(folder: Path) -> None:
    """Wait until a process that is about to stop lets go of the run's folder; who does not is met by the run itself."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=LOCK_PATIENCE):
            return
    except (Timeout, OSError):
        return


def _root(job: Job) -> Path | None:
    return Path(job.data_root) if job.data_root else None


def _peak() -> int:
    """Return the most memory this process has held, in bytes."""
    with contextlib.suppress(OSError, StopIteration):  # getrusage goes on from what the parent held before exec
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def _shared() -> int:
    """Return the bytes of this process that its neighbours hold as well: libraries, where the system tells."""
    return int(getattr(psutil.Process().memory_info(), "shared", 0))


@contextmanager
def _output(path: Path) -> Iterator[None]:
    """Let everything that is printed meanwhile, by whatever code, go to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(before, start=1):
            os.dup2(old, number)
            os.close(old)
        if path.stat().st_size == 0:
            path.unlink()
