"""The two ways a run is refused or ends early, each carrying one sentence for the person at the terminal."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

NO_MEMORY = (
    *("not enough memory", "can't allocate memory", "Cannot allocate memory", "Unable to allocate", "out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)
# what code raises that is wrong; not what is ours, nor what a signal or a lack of memory raises
MISTAKES: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(OSError, RuntimeError, TypeError, ValueError),
)


class UsageError(Exception):
    """A request that cannot be fulfilled; the message says what was found, where, and what is allowed.

    The command line prints it and exits with code 2, before the first step is taken.

    >>> str(UsageError("stream.n: found 0; allowed are 1, 2, 3, …"))
    'stream.n: found 0; allowed are 1, 2, 3, …'
    """


class MayNotBeRead(UsageError):
    """A file that is there and that this user may not read: nothing is lost, and nothing is to be begun anew.

    >>> str(MayNotBeRead("run/log.h5", PermissionError(13, "Permission denied")))
    'run/log.h5 may not be read by this user: Permission denied'
    """

    def __init__(self, path: object, error: OSError) -> None:
        super().__init__(f"{path} may not be read by this user: {os.strerror(error.errno or errno.EACCES)}")


class RunFailed(Exception):
    """The end of a run that had begun and cannot continue; what was measured stays in its log (exit code 1).

    >>> str(RunFailed("the loss of seed 0 is nan at step 3"))
    'the loss of seed 0 is nan at step 3'
    """


def unknown(kind: str, found: str, allowed: Iterable[str], meant: str = "") -> UsageError:
    """Return the error for a name that does not exist, with what is ``meant``, or else the nearest that does, and all that do."""
    names = sorted(allowed)
    near = [meant] if meant else difflib.get_close_matches(found, names, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return UsageError(f"no {kind} named '{found}'{hint}; there are: {', '.join(names) or 'none'}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error tells of memory that cannot be had, which torch says in words alone.

    Whoever takes errors of any kind for those of a file, a net or a library asks this first, and lets such an error pass: that
    of a GPU is a `RuntimeError` like any other.
    """
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


@contextmanager
def mistakes_told(what: str) -> Iterator[None]:
    """Turn the errors of a user's own code into a `UsageError`, which begins with ``what`` raised them."""
    try:
        yield
    except MISTAKES as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(f"{what} raised {type(error).__name__}: {error}") from error


def a_name(where: str, found: object) -> str:
    """Return what was found where a name belongs.

    >>> a_name("net.name", "mlp")
    'mlp'

    Raises:
        UsageError: if it is none: a class, say.
    """
    if isinstance(found, str):
        return found
    if not isinstance(found, type):
        raise UsageError(f"{where}: found a {type(found).__name__}; a name belongs there")
    raise UsageError(
        f"{where}: found the class {found.__name__}; a name belongs there, as '{found.__module__}:{found.__qualname__}'"
    )
