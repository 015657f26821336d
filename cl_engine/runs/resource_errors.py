"""Errors of memory or disk that is used up, with a sentence that says what would take less."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cl_engine.core.files import REFUSED
from cl_engine.errors import RunFailed, is_out_of_memory
from cl_engine.training.optimizers import Train

GO_ON = "The same command goes on from the last save. "
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit is met",
}
NUMBERED = re.compile(r"errno = (\d+)")  # as HDF5 tells of what the system said


@contextmanager
def explained(train: Train, seeds: int, where: object, go_on: str = GO_ON) -> Iterator[None]:
    """Turn the errors of memory and disk that are used up into `RunFailed` with a sentence that says what to do.

    Args:
        train: the training options, whose numbers the sentence names.
        seeds: how many learn side by side.
        where: what is writing, for ``str``: the run's folder.
        go_on: what can be done after it.

    Raises:
        RunFailed: for memory that cannot be had, on a GPU or not, and files that cannot be written.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunFailed(f"the GPU is out of memory: {_less(train, seeds)}. {go_on}({_first(error)})") from error
    except MemoryError as error:
        raise RunFailed(f"out of memory: {_less(train, seeds)}. {go_on}({_first(error)})") from error
    except (OSError, RuntimeError) as error:
        number = _number(error)
        where = getattr(error, "filename", None) or where
        if number in FULL:
            raise RunFailed(f"{FULL[number]}, writing to {where}: make room. {go_on}({_first(error)})") from error
        if number in REFUSED:
            raise RunFailed(f"{where} can no longer be written to: give it back. {go_on}({_first(error)})") from error
        if is_out_of_memory(error):
            raise RunFailed(f"out of memory: {_less(train, seeds)}. {go_on}({_first(error)})") from error
        raise


def _less(train: Train, seeds: int) -> str:
    others = f" or run fewer seeds at a time, now {seeds}," if seeds > 1 else ""
    return f"lower train.batch, now {train.batch},{others} or take a smaller net (which is another experiment)"


def _number(error: Exception) -> int | None:
    """Return the number of the system's error, which HDF5 and safetensors give in words alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = NUMBERED.search(str(error)) or re.search(r"os error (\d+)", str(error))
    return int(said.group(1)) if said else None


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
