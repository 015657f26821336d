"""Torch's own defaults in force while the engine computes, whatever its user has set for code of theirs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from cl_engine.core import gpu

P = ParamSpec("P")
Y = TypeVar("Y")
R = TypeVar("R")


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute in float32, with gradients, without autocast and on the CPU where nothing else is said; also a decorator.

    What was set before (`torch.set_default_dtype`, `torch.no_grad`, …) holds again afterwards.
    """
    with ExitStack() as put_back:
        if torch.is_inference_mode_enabled():
            put_back.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            put_back.enter_context(torch.enable_grad())
        for kind in ("cpu", gpu.KIND):
            if torch.is_autocast_enabled(kind):
                put_back.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_dtype() != torch.float32:
            put_back.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            put_back.enter_context(torch.device("cpu"))
        yield


def under_torch_defaults(function: Callable[P, Generator[Y, None, R]]) -> Callable[P, Generator[Y, None, R]]:
    """Return a generator function that runs under `torch_defaults` whenever it is resumed, its reader never."""

    @wraps(function)
    def guarded(*args: P.args, **named: P.kwargs) -> Generator[Y, None, R]:
        generator = function(*args, **named)
        thrown: BaseException | None = None
        try:
            while True:
                with torch_defaults():
                    try:
                        found = next(generator) if thrown is None else generator.throw(thrown)
                    except StopIteration as ended:
                        result: R = ended.value
                        return result
                thrown = None
                try:
                    yield found
                except Exception as error:  # what the reader throws is for the function
                    thrown = error
        finally:
            generator.close()

    return guarded
