"""What a loss is called with, said where it takes something else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from cl_engine.errors import UsageError


def check_loss(loss: Callable[..., Any], tensors: int, numbers: int) -> None:
    """Refuse a loss that cannot be called with the weights, what is frozen, the tensors of a batch, and the numbers of a step.

    Raises:
        UsageError: with how it is written, and how it is called.
    """
    whole, given = loss, ["params", "frozen", "x", "y"][: 2 + tensors]
    given += [f"rows_{k}" for k in range(3, tensors + 1)] + [f"number_{k}" for k in range(1, numbers + 1)]
    try:
        signature = inspect.signature(whole)
    except (TypeError, ValueError):  # it does not say
        return
    try:
        signature.bind(*given)
    except TypeError:
        while isinstance(loss, functools.partial):
            loss = loss.func
        own = ["self"] if inspect.ismethod(loss) else []
        name = getattr(loss, "__name__", type(loss).__name__)
        owner = f"{type(loss.__self__).__name__}." if inspect.ismethod(loss) else ""
        raise UsageError(
            f"{owner}{name} is written as {name}({', '.join([*own, *signature.parameters])}); a loss is called as "
            f"{name}({', '.join([*own, *given])}) here"
        ) from None
