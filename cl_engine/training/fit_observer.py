"""Observers that follow a fit batch by batch, for code that has callbacks of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, Protocol

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.tree import Tree

P = ParamSpec("P")


class FitEnded(Exception):
    """Raised by an observer, or into the generator of a fit, to end the fit with the weights as they are.

    >>> issubclass(FitEnded, Exception)
    True
    """


class ObservedFit(Protocol):
    """A fit under way, as its observer may look at it: weights of one seed, and the optimisers that change them.

    >>> from cl_engine.training.one_seed import OneSeed
    >>> all(hasattr(OneSeed, name) for name in ("logits", "whole"))
    True

    Attributes:
        params: tree of what is being trained, tensors without the axis of seeds, changed in place.
        optimizers: what takes the steps.
    """

    params: Tree
    optimizers: list[torch.optim.Optimizer]

    def logits(self, x: Tensor) -> Tensor:
        """Return logits ``[S, N, C]``."""

    def whole(self) -> Tree:
        """Return the tree as it is now, with the axis of seeds in front."""


class FitObserver(Protocol):
    """Follows the training steps of seeds that run in turn; what is learned stays the same, bit for bit.

    Rehearsed rows are not shown, nor batches that are not inputs and labels. Random numbers that an observer draws leave
    torch's generators as they were. A fit that is observed runs in this process, and its steps are never replayed. Where
    `batch_begins` raises `FitEnded`, the fit ends without that batch.

    >>> class Losses:
    ...     def __init__(self): self.seen = []
    ...     def fit_begins(self, fits): pass
    ...     def fit_ends(self): pass
    ...     def batch_begins(self, x, y): pass
    ...     def batch_answered(self, logits, loss): self.seen.append(float(loss))
    ...     def gradients_known(self): pass
    ...     def batch_ends(self): pass
    >>> observer: FitObserver = Losses()
    >>> observer.batch_answered(torch.zeros(1, 2), torch.tensor(0.5)); observer.seen
    [0.5]
    """

    def fit_begins(self, fits: Sequence[ObservedFit]) -> None:
        """Take in a fit that is about to begin: one, or one for each candidate that is trained beside others."""

    def fit_ends(self) -> None:
        """Be told that the fit is over."""

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
    device: torch.device,
    point: Callable[Concatenate[FitObserver, P], None],
    *arguments: P.args,
    **named: P.kwargs,
) -> None:
    """Call an observer at a point of a step, with the global generators as they were afterwards."""
    with rng.kept(device):
        getattr(observer, point.__name__)(*arguments, **named)
