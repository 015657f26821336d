"""Fits of candidates, of which one is chosen on validation rows; the learning curve is that of the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from cl_engine.core.tree import Tree, leaves_with_path, unflatten
from cl_engine.events import EpochEnded, Event
from cl_engine.training.early_stopping import where_seeds
from cl_engine.training.fit_job import Curve, TrainingProbe

POINTS = 64  # of a learning curve, the first ones: weights are held until it is known whose curve counts


@dataclass
class CandidateFit:
    """The outcome of a fit of several candidates.

    >>> CandidateFit(epochs=2, flops=1e6).epochs
    2

    Attributes:
        params: what was fitted, tensors ``[C · S, …]``, one candidate behind the other.
        epochs: number of epochs.
        flops: operations of one candidate, one seed's.
        moments: what was being fitted, by number of batches, at the first points of the learning curve.
    """

    params: Tree = field(default_factory=dict)
    epochs: int = 0
    flops: float = 0.0
    moments: dict[int, Tree] = field(default_factory=dict)


def fit_candidates(
    fitting: Generator[Event, None, Tree], candidates: int, points: int = POINTS
) -> Generator[Event, None, CandidateFit]:
    """Run a fit of this many candidates and return its outcome, with the first ``points`` of the learning curve.

    Its events are passed on, except for its probes: whose learning curve counts is known only when one has been chosen.
    """
    found, returning, ended = CandidateFit(), _Returning(fitting), 0
    for event in returning:
        if isinstance(event, TrainingProbe):
            if len(found.moments) < points:
                found.moments[event.batch] = event.params()
            continue
        if isinstance(event, EpochEnded):
            if ended % candidates == 0:  # each candidate ends the epoch, and all of them took as many operations
                found.epochs += 1
                found.flops += event.flops
            ended += 1
        yield event
    found.params = returning.value
    return found


class _Returning:
    """A fit to be looped over, with the value it returned once it is over."""

    def __init__(self, fitting: Generator[Event, None, Tree]) -> None:
        self._fitting = fitting
        self.value: Tree = {}

    def __iter__(self) -> Iterator[Event]:
        self.value = yield from self._fitting


class BestFit:
    """Keeps for each seed the candidate that is best on validation rows, the first of several equal ones.

    >>> best = BestFit(seeds=1, device=torch.device("cpu"))
    >>> _ = best.offer({"w": torch.tensor([1.0])}, torch.tensor([0.8]), {})
    >>> _ = best.offer({"w": torch.tensor([2.0])}, torch.tensor([0.7]), {})
    >>> best.params, best.accuracy
    ({'w': tensor([1.])}, tensor([0.8000]))

    Attributes:
        accuracy: on validation rows, ``[S]``; of tasks that do not ask for classes the score, turned so that more is better.
        params: its weights, a tree of tensors ``[S, …]``.
        points: its weights while it was learned, by number of batches.
    """

    def __init__(self, seeds: int, device: torch.device) -> None:
        self.accuracy = torch.full((seeds,), -torch.inf, device=device)
        self.params: Tree = {}
        self.points: dict[int, Tree] = {}

    def offer(
        self, params: Tree, accuracy: Tensor, points: Mapping[int, Tree], preferred: Tensor | None = None
    ) -> Tensor:
        """Take a candidate over for those seeds for which it is better, or as good and ``preferred [S]``; return which."""
        better = accuracy > self.accuracy
        if preferred is not None:
            better = better | ((accuracy == self.accuracy) & preferred)
        self.accuracy = torch.where(better, accuracy, self.accuracy)
        self.params = _merged(better, params, self.params)
        self.points = {batch: _merged(better, points[batch], self.points.get(batch, {})) for batch in points}
        return better

    def curve(self, step: int, per_epoch: int, answers: Callable[[Tree, Tensor], Tensor]) -> Iterator[TrainingProbe]:
        """Yield the learning curve of the chosen candidates, ``answers(params, x)`` being the logits ``[S, N, C]``."""
        for batch, params in self.points.items():
            yield TrainingProbe(step=step, batch=batch, epoch=batch // per_epoch, predict=partial(answers, params))


def points_of(curve: Curve, per_epoch: int, epochs: int, moments: Mapping[int, Tree], final: Tree) -> dict[int, Tree]:
    """Return the weights at the first points of the learning curve of a candidate; ``final`` after it stopped early."""
    wanted = [batch for batch in range(per_epoch * epochs + 1) if curve.wants(batch, per_epoch)]
    return {batch: moments.get(batch, final) for batch in wanted[:POINTS]}


def _merged(chosen: Tensor, one: Tree, other: Tree) -> Tree:
    held = dict(leaves_with_path(other))
    return unflatten(
        {path: where_seeds(chosen, leaf, held[path]) if held else leaf for path, leaf in leaves_with_path(one)}
    )
