"""Workers that train the seeds of a fit: this process, or several forked from it that work at the same time."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from cl_engine.errors import RunFailed
from cl_engine.training.seed_group import SeedGroup

FORK_FROM = 1e11  # operations: a second or two of two cores, against the tenth of a second that forking takes in all

P = ParamSpec("P")
R = TypeVar("R")


class WorkerPool:
    """Trains the seed groups of a fit, one after another in this process until `divide` finds that it pays to fork.

    A forked process begins with all that this one has at that moment, so nothing is sent but what methods are given and
    return. Which process trains changes nothing but rounding: torch may add up in another order with another number of
    threads.

    >>> WorkerPool([]).each(SeedGroup.end_epoch)
    []
    """

    def __init__(self, groups: Sequence[SeedGroup]) -> None:
        self.groups = groups
        self._shares: list[range] = []
        self._pipes: list[Connection] = []
        self._children: list[int] = []

    def each(self, method: Callable[Concatenate[SeedGroup, P], R], *args: P.args, **named: P.kwargs) -> list[R]:
        """Call a method of `SeedGroup` on every group, wherever it is, and return what each returns.

        ``pool.each(SeedGroup.advance, 10, 0.1)`` calls ``group.advance(10, 0.1)``, each group's own.

        Raises:
            RunFailed: if a process is gone; whatever the method raised is raised here.
        """
        if not self._pipes:
            return [getattr(group, method.__name__)(*args, **named) for group in self.groups]
        for pipe in self._pipes:
            with suppress(BrokenPipeError):  # said below, where its answer is missing
                pipe.send((method.__name__, [_arrays(arg) for arg in args], _arrays(named)))
        answers = [_answer(pipe) for pipe in self._pipes]
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed:
            raise failed[0]
        found = {
            k: part
            for share, answer in zip(self._shares, answers, strict=True)
            for k, part in zip(share, answer, strict=True)
        }
        return [_tensors(found[k]) for k in range(len(self.groups))]

    def divide(self, epochs: int) -> None:
        """Fork workers if the remaining ``epochs`` outweigh the cost of forking.

        Every group must have taken a first step, whose operations it counted.
        """
        workers = processes(len(self.groups), self.groups[0].job.net.device)
        work = sum(group.flops for group in self.groups) * epochs
        if workers < 2 or work < FORK_FROM:
            return
        self._shares = [range(k, len(self.groups), workers) for k in range(workers)]
        for share in self._shares:
            self._fork([self.groups[k] for k in share], max(1, torch.get_num_threads() // workers))

    @property
    def turns(self) -> int:
        """Number of groups that wait for one another."""
        return max(map(len, self._shares), default=len(self.groups))

    def close(self) -> None:
        """End the forked processes."""
        for pipe in self._pipes:
            pipe.close()  # they end when there is nobody left to ask them
        for child in self._children:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)
        self._pipes, self._children = [], []

    def _fork(self, groups: Sequence[SeedGroup], threads: int) -> None:
        ours, theirs = mp.Pipe()
        with warnings.catch_warnings():
            # Python warns of locks that other threads may hold; a worker touches nothing but tensors and its pipe
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            child = os.fork()
        if child:
            theirs.close()
            self._pipes.append(ours)
            self._children.append(child)
            return
        try:
            for pipe in (*self._pipes, ours):
                pipe.close()
            for number in (signal.SIGINT, signal.SIGTERM):  # the first process is asked to stop, and ends the others
                signal.signal(number, signal.SIG_IGN)
            torch.set_num_threads(threads)
            _serve(theirs, groups)
        finally:
            os._exit(0)


def processes(groups: int, device: torch.device) -> int:
    """Return the number of processes that this many seed groups are divided among, if dividing them pays.

    On a GPU, on systems without a fork that libraries stand, and with one thread to share, it is one.
    """
    return min(groups, torch.get_num_threads()) if device.type == "cpu" and sys.platform == "linux" else 1


def _serve(pipe: Connection, groups: Sequence[SeedGroup]) -> None:
    while True:
        try:
            method, args, named = pipe.recv()
        except EOFError:
            return
        try:
            args, named = list(map(_tensors, args)), _tensors(named)
            answer: Any = [_arrays(getattr(group, method)(*args, **named)) for group in groups]
        except BaseException as error:
            answer = error
        pipe.send(answer)


def _answer(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return RunFailed(
            "a process that trained some of the seeds was ended from outside, as happens when memory runs out: "
            "run fewer seeds at a time, or set OMP_NUM_THREADS=1 to train them in one process"
        )


def _arrays(found: Any) -> Any:
    """Return an answer as it is sent: tensors as arrays, which are sent as bytes (torch would open a file for each)."""
    if isinstance(found, dict):
        return {key: _arrays(value) for key, value in found.items()}
    return found.detach().numpy() if isinstance(found, Tensor) else found


def _tensors(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _tensors(value) for key, value in found.items()}
    return torch.from_numpy(found) if isinstance(found, np.ndarray) else found
