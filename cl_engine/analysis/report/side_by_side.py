"""Work on many things in forked processes, where that is safe; otherwise one after the other."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")
FEWEST = 6  # things from which on a process is worth its start
MOST = 8  # processes


def each(count: int, work: Callable[[int], T]) -> list[T]:
    """Return what ``work`` returns for each number below ``count``, in order, computed by as many processes as there are cores.

    Processes are forked, and so know all that there is; what they change stays with them. What a process did not get done, as it
    was killed, is done here. One process does all of it where there are threads, which do not survive a fork, or no safe fork.
    """
    processes = min(MOST, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1, count)
    if count < FEWEST or processes < 2 or threading.active_count() > 1 or multiprocessing.current_process().daemon:
        return [work(k) for k in range(count)]
    fork = multiprocessing.get_context("fork")
    pipes, workers = [], []
    for first in range(1, processes):
        ours, theirs = fork.Pipe(duplex=False)
        worker = fork.Process(target=_sent, args=(theirs, range(first, count, processes), work), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    found = {k: work(k) for k in range(0, count, processes)}
    for pipe, worker in zip(pipes, workers, strict=True):
        try:
            while (told := pipe.recv()) is not None:
                found[told[0]] = told[1]
        except EOFError:
            pass  # it was killed
        pipe.close()
        worker.join()
    return [found[k] if k in found else work(k) for k in range(count)]


def _sent(pipe: Connection, numbers: range, work: Callable[[int], T]) -> None:
    for k in numbers:
        pipe.send((k, work(k)))
    pipe.send(None)
