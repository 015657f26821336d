"""A field of nets: a hypernetwork that is told the time, and makes the net that SGD would have come to by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.nn.net import Params
from cl_engine.recall.hypernetwork import Generator

GOLDEN = 0.6180339887498949


class Field:
    """A field θ_t(c) = θ₀ + (t/T) g_φ(t, c) of weights over steps t of plain SGD (Hedlin et al. 2025).

    It is trained to move as SGD would, ‖H(t+1, c) − H(t, c) + η ∇L(H(t, c))‖² / η², and never sees a trained net.

    >>> from cl_engine.nn.net import Net
    >>> from cl_engine.recall.hypernetwork import GeneratorOptions
    >>> from cl_engine.recall.manifest import Manifest
    >>> net = Net(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), (1, 2, 2))
    >>> manifest, options = Manifest.of(net, net.init([0])), GeneratorOptions.of({})
    >>> field = Field(Generator(manifest, options, torch.device("cpu"), timed=True), horizon=100, eta=0.5)
    >>> phi, start = {name: one[0] for name, one in field.generator.init([0]).items()}, torch.ones(15)
    >>> torch.equal(field.weights(phi, start, torch.zeros(1, 8), torch.zeros(1))[0], start)
    True

    Attributes:
        generator: what makes g.
        horizon: T, the steps it reaches.
        eta: η, the learning rate of the SGD it follows.
    """

    def __init__(self, generator: Generator, horizon: int, eta: float) -> None:
        """Take a generator that is told the time."""
        self.generator, self.horizon, self.eta = generator, horizon, eta

    def weights(self, phi: Params, start: Tensor, codes: Tensor, times: Tensor) -> Tensor:
        """Return the weights ``[n, P]`` of codes ``[n, d]`` at steps ``times [n]`` of one seed; ``start [P]`` is θ₀."""
        done = times / self.horizon
        return start + done.unsqueeze(-1) * self.generator.change(phi, codes, done)

    def mismatch(
        self, phi: Params, start: Tensor, codes: Tensor, times: Tensor, gradient: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return by how much steps of the field differ from SGD's, ‖·‖² / η², for codes ``[n, d]`` at ``times [n]``: ``[n]``.

        ``gradient`` returns ∇L of weights ``[n, P]``; nothing flows back through it.
        """
        both = self.weights(phi, start, torch.cat([codes, codes]), torch.cat([times, times + 1]))
        here, following = both.split(len(times))
        off: Tensor = (following - here) / self.eta + gradient(here.detach()).detach()
        return off.square().sum(dim=-1)

    def times(self, count: int, number: int) -> Sequence[float]:
        """Return ``count`` whole steps in 0 to T − 1, the ``number``-th of sets that fill the interval evenly."""
        return [float(int(self.horizon * ((number * count + k + 1) * GOLDEN % 1))) for k in range(count)]


def sgd_path(
    gradient: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    rows: int,
    batch: int,
    eta: float,
    at: Sequence[int],
    seed: int,
) -> Iterator[Tensor]:
    """Yield the weights ``[P]`` that plain SGD comes to after each number of steps in ``at``, which ascend.

    ``gradient`` is given weights and the indices of a batch; an epoch is a permutation of the rows, drawn from ``seed``.
    """
    weights, order = start.clone(), torch.empty(0, dtype=torch.int64)
    epoch = 0
    for step in range(max(at, default=0) + 1):
        yield from [weights] * (step in at)
        if not len(order):
            order, epoch = torch.randperm(rows, generator=rng.tensors(seed, "audit", epoch)), epoch + 1
        weights = weights - eta * gradient(weights, order[:batch].to(start.device))
        order = order[batch:]
