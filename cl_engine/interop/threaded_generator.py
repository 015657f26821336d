"""Blocking calls as generators: the call runs in a thread that stands still until its reader asks for more."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 10.0  # seconds that a call has to notice that nobody reads it any more


class Abandoned(BaseException):
    """Raised inside the call when its reader has stopped reading.

    >>> issubclass(Abandoned, Exception)  # not caught by `except Exception`
    False
    """


class ThreadedGenerator(Generic[T]):
    """Runs ``call(self)`` in a thread, strictly in turn with the reader, who gets what the call tells.

    Other libraries' training loops cannot be left in the middle. This makes them stoppable: reading stops, the next
    `tell` inside the call raises `Abandoned`. An error of the call is raised for the reader.

    >>> def count(reader):
    ...     for number in range(3):
    ...         reader.tell(number)
    >>> list(ThreadedGenerator(count).read())
    [0, 1, 2]
    """

    def __init__(self, call: Callable[[ThreadedGenerator[T]], None]) -> None:
        self._call = call
        self._turn = threading.Semaphore(0)
        self._told: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
        self._abandoned = False

    def read(self) -> Generator[T, None, None]:
        """Yield what the call tells; to stop the call, stop reading."""
        thread = threading.Thread(target=self._run, name="aside", daemon=True)
        thread.start()
        try:
            while True:
                self._turn.release()
                more, value = self._told.get()
                if more:
                    yield value  # type: ignore[misc]
                elif isinstance(value, BaseException):
                    raise value
                else:
                    return
        finally:
            self._abandoned = True
            self._turn.release()
            thread.join(PATIENCE)

    def tell(self, value: T) -> None:
        """Hand a value to the reader and wait until the next is asked for; called inside the call."""
        self._told.put((True, value))
        self._turn.acquire()
        if self._abandoned:
            raise Abandoned

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if not self._abandoned:
                self._call(self)
        except Abandoned:
            return
        except BaseException as error:  # whatever it is, it is the reader's
            self._told.put((False, error))
            return
        self._told.put((False, None))
