"""Our training loop as Avalanche's callbacks: which batch is at hand, what was answered, when a step was taken."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cl_engine.core.tree import Tree
from cl_engine.strategy import Strategy


class Listener(Protocol):
    """What is told where training is."""

    def batch_begins(self, x: Tensor, y: Tensor) -> None:
        """Rows are about to be answered."""

    def batch_answered(self, logits: Tensor, loss: Tensor) -> None:
        """Their answers and their loss are known."""

    def gradients_known(self) -> None:
        """The loss has been differentiated; no step was taken yet."""

    def batch_ends(self) -> None:
        """The step was taken."""


class Watch:
    """Watches the fits of one strategy and tells a listener; what is learned stays the same, bit for bit.

    A batch is told of at its own points: before and after its loss, before its step, and, since nothing happens in
    between, its end when the next one begins. Rehearsed rows are not shown.
    """

    def __init__(self, strategy: Strategy, listener: Listener) -> None:
        """Take the strategy, with one seed, and who listens."""
        self.strategy, self.listener = strategy, listener
        self._open = self._differentiated = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch inside the block."""
        original = self.strategy.fit

        def fit(params: Tree, loss: Callable[..., Tensor], *more: Any, **named: Any) -> Generator[Any, None, Tree]:
            return (yield from original(params, self._watched(loss, named), *more, **named))

        self.strategy.fit = fit  # type: ignore[method-assign]
        hook = register_optimizer_step_pre_hook(self._before_step)
        try:
            yield
        finally:
            hook.remove()
            del self.strategy.fit

    def end_batch(self) -> None:
        """Tell that the batch at hand is over, if there is one."""
        if self._open:
            self._open = False
            with torch.random.fork_rng():
                self.listener.batch_ends()

    def _watched(self, loss: Callable[..., Tensor], named: dict[str, Any]) -> Callable[..., Tensor]:
        answer = named.get("logits") or self.strategy.logits
        rehearsed = 0
        if named.get("rehearsal") is not None:
            rehearsed = (named.get("train") or self.strategy.train).batch

        def watched(params: Tree, frozen: Tree | None, *batch: Tensor) -> Tensor:
            if not _are_rows(batch):
                return loss(params, frozen, *batch)
            self.end_batch()
            own = len(batch[0]) - rehearsed
            x, y = batch[0][:own], batch[1][:own]
            with torch.random.fork_rng():  # what listens may draw; the loss may be random, and is derived
                self.listener.batch_begins(x, y)
            found = loss(params, frozen, *batch)
            with torch.random.fork_rng(), torch.no_grad(), self.strategy.net.evaluating():
                self.listener.batch_answered(answer(params, frozen, x), found.detach())
            self._open, self._differentiated = True, False
            return found

        watched.listens = True  # type: ignore[attr-defined]  # every step is to be heard of: none is replayed
        return watched

    def _before_step(self, *optimizer: Any) -> None:
        if self._open and not self._differentiated:
            self._differentiated = True
            with torch.random.fork_rng():
                self.listener.gradients_known()


def _are_rows(batch: tuple[Tensor, ...]) -> bool:
    """Return whether a loss is given inputs and labels, and not under vmap."""
    if len(batch) < 2 or torch._C._functorch.is_batchedtensor(batch[0]):
        return False
    x, y = batch[0], batch[1]
    return x.ndim > 1 and y.ndim == 1 and y.dtype == torch.int64 and len(x) == len(y)
