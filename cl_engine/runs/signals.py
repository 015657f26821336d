"""Signals that ask a run to stop: SIGINT and SIGTERM are noted, and the run ends where it can be resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):
    """A stop that was asked for by a signal, whose number is ``signal``.

    >>> Stopped(15).signal
    15
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number

    def __reduce__(self) -> tuple[type[Stopped], tuple[int, ...]]:
        return type(self), (self.signal,)  # so that a process of a pool can hand it on


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one interrupts at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    with _handled_by(note):
        yield asked


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Stopped` where they arrive: while there is nothing yet that could be lost."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled_by(stop):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not in the main thread: whoever owns that decides
        yield
        return
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)
