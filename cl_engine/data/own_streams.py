"""Streams of a user's own: what they give is looked at before anything is learned from it.

Those of the engine are held to the same by its tests, and nothing is looked at.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.data.stream_over import StreamOver
from cl_engine.errors import UsageError, mistakes_told
from cl_engine.nn.target import Target
from cl_engine.targets.classes import Classes

SAID = ("n_tasks", "n_steps", "input_shape", "outputs", "mean", "std", "device")
ROWS = {"train": "training rows", "validation": "validation rows", "unlabelled": "rows without labels"}


def is_own(stream: Stream) -> bool:
    """Return whether the class of a stream is not one of the engine's, whatever arranges what it gives."""
    return not type(_inner(stream)).__module__.startswith("cl_engine.")


def check_stream(stream: Stream) -> None:
    """Refuse a user's stream that does not say what streams say, or whose first experience cannot be learned.

    Raises:
        UsageError: naming the class, what was found, and what is expected.
    """
    if not is_own(stream):
        return
    missing = [name for name in SAID if not hasattr(stream, name)]
    if missing:
        raise UsageError(
            f"{_named(stream)}: it does not set {', '.join(f'self.{name}' for name in missing)}: its __init__ sets "
            f"{', '.join(SAID)}"
        )
    with mistakes_told(f"{_named(stream)}: stream[0]"):
        experience = stream[0]
    fault = fault_of_experience(stream, 0, experience)
    if not fault:
        with mistakes_told(f"{_named(stream)}: test({experience.task_id})"):
            test = stream.test(experience.task_id)
        fault = fault_of_test(stream, experience.task_id, test, first=True)
    if fault:
        raise UsageError(fault)


def fault_of_experience(stream: Stream, step: int, found: Any) -> str:
    """Return what is wrong with the experience that a user's stream gives at a step; empty: nothing."""
    if not isinstance(found, Experience):
        return f"{_named(stream)}: stream[{step}] is {_said(found)}; an Experience is expected"
    for half, words in ROWS.items():
        rows = getattr(found, half)
        if rows is None and half == "unlabelled":
            continue
        asked = (found.target or stream.target(found.task_id)) if found.labelled and half != "unlabelled" else None
        fault = _fault(stream, rows, asked, first=not step)
        if fault:
            return f"{_named(stream)}: stream[{step}] (task {found.task_id}), {words}: {fault}"
    return ""


def fault_of_test(stream: Stream, task_id: int, found: Any, first: bool = False) -> str:
    """Return what is wrong with the test rows that a user's stream gives of a task; empty: nothing."""
    fault = _fault(stream, found, stream.target(task_id), first)
    return f"{_named(stream)}: test({task_id}): {fault}" if fault else ""


def _fault(stream: Stream, rows: Any, asked: Target | None, first: bool) -> str:
    """Return what is wrong with rows; ``first``: labels are looked at wherever they are, and whatever is ``asked``."""
    if not isinstance(rows, Data):
        return f"found {_said(rows)}; a Data is expected"
    x, y = rows.x, rows.y
    odd = next((f"{name} is {_said(part)}" for name, part in (("x", x), ("y", y)) if not isinstance(part, Tensor)), "")
    if odd:
        return f"{odd}; a tensor is expected, as torch.from_numpy makes one"
    if not x.ndim or not y.ndim or len(x) != len(y):
        return f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; as many labels as inputs are expected"
    if x.shape[1:] != tuple(stream.input_shape):
        return f"inputs have shape {tuple(x.shape[1:])}; that of input_shape is expected, {tuple(stream.input_shape)}"
    if x.is_floating_point() and x.dtype != torch.float32:
        return f"inputs are {x.dtype}; torch.float32 is expected, or torch.uint8"
    of_classes = isinstance(asked, Classes)
    looked_at = first or (of_classes and y.device.type == "cpu")  # a GPU would be waited for
    if asked is None or not len(y) or not looked_at:
        return ""
    if isinstance(asked, Classes) and y.ndim == 1 and y.dtype in _NUMBERS:  # at every experience
        least, most = torch.aminmax(y)
        if int(least) >= 0 and int(most) < asked.classes:
            return ""
    fault = asked.fault(y.cpu().numpy())
    if fault:
        return f"labels: {fault}"
    return f"labels are {y.dtype}; torch.int64 is expected" if of_classes and y.dtype not in _NUMBERS else ""


_NUMBERS = (torch.int64, torch.uint8)  # of classes, as torch takes them


def _inner(stream: Stream) -> Stream:
    while isinstance(stream, StreamOver):
        stream = stream.stream
    return stream


def _named(stream: Stream) -> str:
    return f"the stream {type(_inner(stream)).__name__}"


def _said(found: object) -> str:
    if found is None:
        return "None"
    kind = type(found)
    return f"a {kind.__module__}.{kind.__name__}" if kind.__module__ != "builtins" else f"a {kind.__name__}"
