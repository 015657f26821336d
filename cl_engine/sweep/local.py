"""The local backend: a few processes of this machine, each doing one job after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from cl_engine.sweep.backend import Job, JobProgress, Outcome

RUNS_A_PROCESS = 50  # then a new one takes its place: what a strategy's libraries leak ends with it
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")


Said = queue.Queue[
    tuple["_Worker", "subprocess.Popen[str]", dict[str, Any] | None]
]  # who, and what; None: it has ended


class Local:
    """Processes of this machine. One that dies takes its own job with it and nothing else.

    >>> local = Local(slots=2, threads=1)
    >>> local.room
    2
    >>> local.close()

    Args:
        slots: jobs at a time.
        threads: CPU threads of each.
        devices: the GPU of each slot, for ``CUDA_VISIBLE_DEVICES``; empty: whatever is visible.
    """

    def __init__(self, slots: int, threads: int, devices: Sequence[str] = ()) -> None:
        self.said: Said = queue.Queue()
        self.slots = [
            _Worker(self.said, threads, devices[number % len(devices)] if devices else None) for number in range(slots)
        ]
        self.stopping = False
        self.most = slots

    def limit(self, most: int) -> None:
        """Do at most ``most`` jobs at a time."""
        self.most = min(most, len(self.slots))

    @property
    def room(self) -> int:
        """How many more jobs can be started now."""
        return 0 if self.stopping else self.most - sum(slot.job is not None for slot in self.slots)

    def start(self, job: Job) -> None:
        """Start a job in a free slot."""
        # one that is warm first; the others are started only when they are needed
        free = [slot for slot in self.slots if slot.job is None]
        min(free, key=lambda slot: not slot.alive).begin(job)

    def wait(self, seconds: float) -> list[Outcome | JobProgress]:
        """Return what has happened; wait for it at most ``seconds``."""
        found: list[Outcome | JobProgress] = []
        with contextlib.suppress(queue.Empty):
            slot, process, said = self.said.get(timeout=seconds)
            while True:
                if process is slot.process:
                    found += slot.took(said, self.stopping)
                slot, process, said = self.said.get_nowait()
        return found

    def stop(self) -> None:
        """Ask all jobs to stop where they can go on from."""
        self.stopping = True
        for slot in self.slots:
            slot.signal(signal.SIGTERM)

    def close(self) -> None:
        """End all processes, and what they have started, at once."""
        self.stopping = True
        for slot in self.slots:
            slot.end()


class _Worker:
    """One process, started when there is a job for it, and again after it has ended."""

    def __init__(self, said: Said, threads: int, device: str | None) -> None:
        self.said = said
        self.job: Job | None = None
        self.process: subprocess.Popen[str] | None = None
        self.done = 0
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # `module:Class` is found there too  # noqa: PTH109
        self.environment = {**os.environ, **dict.fromkeys(POOLS, str(threads)), "PYTHONPATH": path}
        if device is not None:
            self.environment["CUDA_VISIBLE_DEVICES"] = device

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def begin(self, job: Job) -> None:
        if self.process is not None and self.done >= RUNS_A_PROCESS:
            self.end()
        if not self.alive:
            self.end()
            self._launch()
        self.job = job
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died this moment: its reader says so
            self.process.stdin.write(json.dumps(job.json) + "\n")
            self.process.stdin.flush()

    def took(self, said: dict[str, Any] | None, stopping: bool) -> list[Outcome | JobProgress]:
        """Return what it means that the process said this; None: that it has ended."""
        if said is not None and "heard" in said:
            return [JobProgress(**said["heard"])]
        job, self.job = self.job, None
        if said is not None:
            self.done += 1
            return [Outcome(**said["outcome"]).as_asked(stopping)]
        if job is None:
            return []
        assert self.process is not None
        code = self.process.wait()
        if stopping:
            return [Outcome(job.name, "stopped")]
        return [Outcome(job.name, "died", _death(code), where=f"process {self.process.pid}")]

    def signal(self, number: int) -> None:
        if self.alive and self.process is not None:
            self.process.send_signal(number)

    def end(self) -> None:
        """End the process and all that it has started."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process = None

    def _launch(self) -> None:
        # a session of its own: Ctrl-C reaches the driver alone, which asks the runs to stop
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cl_engine.sweep.worker"],  # -P: a file of the current folder hides no package
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self.done = 0
        threading.Thread(target=_read, args=(self, self.process), daemon=True).start()
        threading.Thread(target=_reap, args=(self.process,), daemon=True).start()


def _read(slot: _Worker, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    try:
        with process.stdout as lines:
            for line in lines:
                slot.said.put((slot, process, json.loads(line)))
    except ValueError:  # it was killed in the middle of a line
        process.kill()
    finally:
        slot.said.put((slot, process, None))


def _reap(process: subprocess.Popen[str]) -> None:
    """End what a process has started once it has ended itself; as long as they live, its output has no end."""
    process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _death(code: int) -> str:
    """Return a sentence about how a process ended."""
    if code >= 0:
        return f"its process ended by itself with code {code}"
    name = signal.Signals(-code).name
    return f"its process was killed ({name})" + (", by somebody or for want of memory" if name == "SIGKILL" else "")
