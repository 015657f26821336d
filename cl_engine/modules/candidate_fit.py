"""Fits of candidate paths, side by side where there are several, each reported as a fit of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from cl_engine.core.tree import Tree
from cl_engine.events import EpochEnded, Event
from cl_engine.training.fit_job import TrainingProbe


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
    fitting: Generator[Event, None, Tree], candidates: int, points: int
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
