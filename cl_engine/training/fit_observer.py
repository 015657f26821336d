"""Observers that follow a fit batch by batch, for code that has callbacks of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol

import torch
from torch import Tensor

P = ParamSpec("P")


class FitObserver(Protocol):
    """Follows the training steps of seeds that run in turn; what is learned stays the same, bit for bit.

    Rehearsed rows are not shown, nor batches that are not inputs and labels. Random numbers that an observer draws leave
    torch's generators as they were. A fit that is observed runs in this process, and its steps are never replayed.

    >>> class Losses:
    ...     def __init__(self): self.seen = []
    ...     def batch_begins(self, x, y): pass
    ...     def batch_answered(self, logits, loss): self.seen.append(float(loss))
    ...     def gradients_known(self): pass
    ...     def batch_ends(self): pass
    >>> observer: FitObserver = Losses()
    >>> observer.batch_answered(torch.zeros(1, 2), torch.tensor(0.5)); observer.seen
    [0.5]
    """

    def batch_begins(self, x: Tensor, y: Tensor) -> None:
        """Take in inputs ``[N, …]`` and labels ``[N]`` that are about to be answered."""

    def batch_answered(self, logits: Tensor, loss: Tensor) -> None:
        """Take in logits ``[N, C]``, given in evaluation mode, and the loss of the batch."""

    def gradients_known(self) -> None:
        """Be told that the loss has been differentiated; no step was taken yet."""

    def batch_ends(self) -> None:
        """Be told that the step was taken."""


def is_labelled_batch(batch: Sequence[Tensor]) -> bool:
    """Return whether a batch is inputs and class labels."""
    if len(batch) < 2:
        return False
    x, y = batch[0], batch[1]
    return x.ndim > 1 and y.ndim == 1 and y.dtype == torch.int64 and len(x) == len(y)


def tell(
    observer: FitObserver | None,
    point: Callable[Concatenate[FitObserver, P], None],
    *arguments: P.args,
    **named: P.kwargs,
) -> None:
    """Call an observer at a point of a step, with torch's generators as they were afterwards."""
    with torch.random.fork_rng():
        getattr(observer, point.__name__)(*arguments, **named)
