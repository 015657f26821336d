"""Codecs of skills: vectors of weights go in under a row number and come out as recollections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.events import Event
from cl_engine.recall.stop import Probe


@dataclass(frozen=True)
class Batch:
    """Skills to be kept: vectors ``[S, k, P]`` with the shared start taken away, and the row each is to have.

    >>> zeros = torch.zeros(1, 2, 5)
    >>> Batch(zeros, [0, 1], 1, zeros[:, 0], 3, lambda members, vectors: vectors.mean(1), zeros[0, 0]).rows
    [0, 1]

    Attributes:
        rows: where each goes: a row held already is replaced, the next one after the last is appended.
        newest: place within the batch of the skill learned last, whose data are at hand.
        centre: what was taken away, ``[S, P]``.
        step: experience, for events.
        probe: accuracy of the newest skill for weights ``[G, P]`` of these seeds.
        original: accuracy the newest skill has before it is encoded, ``[S]``.
    """

    vectors: Tensor
    rows: Sequence[int]
    newest: int
    centre: Tensor
    step: int
    probe: Probe
    original: Tensor


@dataclass(frozen=True)
class Report:
    """The cost of keeping a batch: the epochs of each seed over the skills trained on (0 where nothing is trained).

    >>> Report(epochs=[40, 35]).epochs
    [40, 35]
    """

    epochs: list[int]


Keeping = Generator[Event, None, Report]


class SkillCodec(ABC):
    """Keeps skills as codes in a state and gives them back; all it knows is in the state.

    >>> from cl_engine.recall.by_lattice import QuantisedCodec
    >>> QuantisedCodec([0], [40, 10], torch.device("cpu"), bits=4).size
    50

    Attributes:
        seeds: the seeds side by side.
        sizes: numbers of weights of the tensors that a vector consists of.
        recall_parts: those parts of the state that recalling reads; the rest is needed only to learn more.
    """

    recall_parts: tuple[str, ...] = ()

    def __init__(self, seeds: Sequence[int], sizes: Sequence[int], device: torch.device) -> None:
        """Set up for vectors that consist of tensors of these sizes."""
        self.seeds, self.sizes, self.size, self.device = list(seeds), list(sizes), sum(sizes), device

    @abstractmethod
    def start(self) -> State:
        """Return the parts of the state, without a skill."""

    @abstractmethod
    def keep(self, state: State, batch: Batch) -> Keeping:
        """Encode a batch into the state: a generator that yields progress and returns its cost."""

    @abstractmethod
    def recall(self, state: State, row: int) -> Tensor:
        """Return the recollection of a row, ``[S, P]``, the shared start not yet added."""

    @abstractmethod
    def held(self, state: State) -> int:
        """Return the number of rows held."""

    @abstractmethod
    def version(self, state: State, row: int) -> int:
        """Return a number that changes whenever the recollection of a row does."""

    def replaceable(self, state: State, row: int) -> bool:
        """Return whether a row can still be written over."""
        return True

    def moving(self, state: State) -> list[int]:
        """Return the rows whose recollections the next `keep` may change."""
        return []


def recalled(codec: SkillCodec, state: State, rows: Sequence[int]) -> Tensor:
    """Return the recollections of several rows, ``[S, n, P]``."""
    if not rows:
        return torch.zeros(len(codec.seeds), 0, codec.size, device=codec.device)
    return torch.stack([codec.recall(state, row) for row in rows], dim=1)
