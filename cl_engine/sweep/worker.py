"""A process that does one job after the other: ``python -m cl_engine.sweep.worker``.

Jobs come as lines of JSON on standard input, outcomes go as lines of JSON to standard output. torch is imported once.
When the input ends, because the driver is done or is dead, the run at hand is told to stop; it goes on from its
last save.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import IO, Any

GRACE = 30.0  # seconds a run has to stop in when the driver is gone


def main() -> None:
    """Do the jobs that come in, until no more can come."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a strategy prints must not reach the driver
    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, jobs), daemon=True).start()

    from dataclasses import asdict

    from cl_engine.sweep.backend import Job, JobProgress
    from cl_engine.sweep.run_job import run_job

    def hear(heard: JobProgress) -> bool:
        _say(channel, {"heard": asdict(heard)})
        return False

    while (job := jobs.get()) is not None:
        _say(channel, {"outcome": asdict(run_job(Job(**job), hear))})


def _listen(stream: IO[str], jobs: queue.Queue[dict[str, Any] | None]) -> None:
    for line in stream:
        jobs.put(json.loads(line))
    jobs.put(None)
    os.kill(os.getpid(), signal.SIGTERM)  # between two jobs this ends the process, in a run it is asked to stop
    threading.Event().wait(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def _say(channel: IO[str], what: dict[str, Any]) -> None:
    try:
        channel.write(json.dumps(what) + "\n")
        channel.flush()
    except BrokenPipeError:
        return  # the driver is gone; what was done is in the folder


if __name__ == "__main__":
    main()
