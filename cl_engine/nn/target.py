"""The contract of targets: what a task asks for, the loss of each row, and the measure of the answers."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.options import Configured

_LISTENING: list[list[tuple[Target, Tensor, Tensor]]] = []


@contextmanager
def heard() -> Iterator[list[tuple[Target, Tensor, Tensor]]]:
    """Hear of every loss that targets are asked for inside the block: the target, outputs and labels, in order."""
    _LISTENING.append([])
    try:
        yield _LISTENING[-1]
    finally:
        _LISTENING.pop()


class Target(Configured, ABC):
    """What a task asks of its inputs: how many outputs there are, what is lost by each row, and how answers are measured.

    A score is a function of a fixed number of sums over rows, so that what is stored is exact, adds up over parts of the
    rows, and gives every score again. The outputs of a net are ``[N, O]``, or ``[N, O, h, w]`` where its head is read at each
    place of a map; a target of rows averages those over the places, a target of places brings them to its labels' size.

    >>> import torch
    >>> class Sign(Target):
    ...     measure, outputs, sum_names = Measure("agreement"), 1, ("right", "all")
    ...     def losses(self, outputs, y):
    ...         return F.softplus(-outputs[:, 0] * y)
    ...     def sums(self, outputs, y):
    ...         return torch.stack([(outputs[:, 0] * y > 0).sum(), torch.tensor(len(y))]).double()
    ...     def scores(self, sums):
    ...         return {"agreement": sums[..., 0] / sums[..., 1]}
    ...     def guess(self, y):
    ...         return y.double().mean().reshape(1)
    >>> target, y = Sign(), torch.tensor([1, -1, 1])
    >>> target.score(target.sums(torch.ones(3, 1), y).numpy()).round(2)
    np.float64(0.67)

    Attributes:
        places: whether the head is read at each place of a map.
        measured_at_places: whether labels are maps too.
        follows_images: whether labels at places can be moved as images are (`followed`).
        smooths: whether its losses spread labels over all classes as `smoothed` says.
        smoothing: the share of a label that is spread so (Szegedy et al. 2016, section 7).
        background: whether the first kind of answers is that nothing is there, which most places say (`chances`).
        measure: the score that R holds.
        outputs: number of outputs of the head.
        sum_names: names of the sums.
    """

    places: ClassVar[bool] = False
    measured_at_places: ClassVar[bool] = False
    follows_images: ClassVar[bool] = False
    smooths: ClassVar[bool] = False
    background: ClassVar[bool] = False
    smoothing = 0.0

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Return the target with these options.

        Raises:
            UsageError: for options that do not exist or are out of bounds.
        """
        made = cls()
        made.configure(options, "target")
        return made

    @classmethod
    def name(cls) -> str:
        """Return the name of the target: that of its file, or ``module:Class`` of one that is not the engine's own."""
        room, _, file = cls.__module__.rpartition(".")
        return file if room == "cl_engine.targets" else f"{cls.__module__}:{cls.__qualname__}"

    @property
    def key(self) -> str:
        """Name and options as JSON: equal for targets that ask the same."""
        return json.dumps({"target": self.name(), **self.options()}, sort_keys=True)

    @property
    @abstractmethod
    def measure(self) -> Measure:
        """The score that R holds."""

    @property
    def counts_answers(self) -> bool:
        """Whether the score is accuracy, and its sums are the rows answered correctly and all rows."""
        return self.measure == Measure("accuracy") and self.sum_names == ("right", "all")

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of outputs of the head."""

    @property
    @abstractmethod
    def sum_names(self) -> tuple[str, ...]:
        """Names of the sums."""

    @abstractmethod
    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each row ``[N]`` for outputs ``[N, O, …]`` of one seed and labels ``[N, …]``."""

    @abstractmethod
    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the sums over the rows ``[K]``, float64, for outputs ``[N, O, …]`` of one seed and labels ``[N, …]``."""

    @abstractmethod
    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Return the measure and further scores of sums ``[…, K]`` by name; NaN where there was nothing to be measured."""

    @abstractmethod
    def guess(self, y: Tensor) -> Tensor:
        """Return the outputs ``[O]`` that suit labels of training rows best where no input is looked at.

        What they score is what a score is to be held against: the most frequent class, the mean number.
        """

    def smoothed(self, share: float) -> Self:
        """Return the same target, which learns from labels of which a share is spread; itself where it has none to spread."""
        if not self.smooths or share == self.smoothing:
            return self
        twin = copy.copy(self)
        twin.smoothing = share
        return twin

    def score(self, sums: np.ndarray) -> np.ndarray:
        """Return the measure of sums ``[…, K]``."""
        return self.scores(sums)[self.measure.name]

    def loss(self, outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of the rows; what a strategy trains by, and online scores are counted where it is called.

        ``weights [N]`` are factors of the rows' losses, 1 each where they are left out.
        """
        if _LISTENING:
            _LISTENING[-1].append((self, outputs, y))
        return self.mean_loss(outputs, y) if weights is None else (weights * self.losses(outputs, y)).mean()

    def mean_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the rows: a target overrides it where there is a faster way than by `losses`."""
        return self.losses(outputs, y).mean()

    def answers(self, outputs: Tensor) -> Tensor:
        """Return what outputs ``[N, O, …]`` say, in the form of labels."""
        return outputs[:, : self.outputs]

    def answers_at(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return `answers`, where they are at places at the size of labels ``y [N, …, H, W]``."""
        maps = self.places and outputs.ndim > 2 and y.ndim > 2 and self.measured_at_places
        return self.answers(at_places(outputs, self.outputs, tuple(y.shape[-2:])) if maps else outputs)

    def chances(self, outputs: Tensor) -> Tensor | None:
        """Return the chance of each kind of answer ``[N, kinds, …]``, by row or place, 1 in all; None: there are no kinds."""
        return None

    def smooth_answers(self, outputs: Tensor) -> Tensor:
        """Return what outputs say as numbers ``[N, D, …]`` that gradients pass through: chances, if there are."""
        found = self.chances(outputs)
        if found is not None:
            return found
        return outputs[:, : self.outputs] if self.places else of_rows(outputs, self.outputs)

    def vectors(self, y: Tensor) -> Tensor:
        """Return labels as vectors ``[N, D]``, near each other where answers would be: what neighbours are averaged over."""
        return y.reshape(len(y), -1).float()

    @torch.inference_mode()
    def sums_by_seed(self, outputs: Tensor, y: Tensor) -> np.ndarray:
        """Return the sums over rows of every seed ``[S, K]``, for outputs ``[S, N, O, …]`` and labels ``[N, …]``."""
        return np.stack([self.sums(own, y).cpu().numpy() for own in outputs])

    def sums_of_each(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return the sums over rows of every seed ``[S, K]``, for outputs ``[S, N, O, …]`` and its own labels ``[S, N, …]``."""
        return torch.stack([self.sums(own, asked) for own, asked in zip(outputs, y, strict=True)])

    def followed(self, y: Tensor, moves: Tensor) -> Tensor:
        """Return labels ``[N, …]`` of images whose places have moved.

        ``moves [N, 2, 2]`` holds factor and offset, in pixels, of columns and of rows.
        """
        return y

    def fault(self, y: np.ndarray) -> str:
        """Return what is wrong with labels ``[N, …]``, as the rest of a sentence about them; empty: nothing."""
        return ""


def quality(target: Target, outputs: Tensor, y: Tensor) -> Tensor:
    """Return the measure of every seed's answers ``[S]``, turned so that more is better; −∞ where it is not defined."""
    found = target.score(target.sums_by_seed(outputs, y)) * (1 if target.measure.higher else -1)
    return torch.from_numpy(np.where(np.isnan(found), -np.inf, found)).to(outputs.device, torch.float32)


def of_rows(outputs: Tensor, count: int) -> Tensor:
    """Return the first ``count`` outputs a row ``[N, count]``, averaged over the places of maps."""
    own = outputs if outputs.shape[1] == count else outputs[:, :count]
    return own.flatten(2).mean(dim=2) if own.ndim > 2 else own


def pooled(maps: Tensor) -> Tensor:
    """Return maps ``[N, C, H, W]`` as vectors ``[N, D]``: the means of at most eight by eight parts."""
    return F.adaptive_avg_pool2d(maps.float(), (min(8, maps.shape[2]), min(8, maps.shape[3]))).flatten(1)


def at_places(outputs: Tensor, count: int, size: tuple[int, ...]) -> Tensor:
    """Return the first ``count`` outputs at the size of labels ``[N, count, H, W]``, by bilinear interpolation."""
    own = outputs[:, :count]
    if own.ndim == 2:
        return own[:, :, None, None].expand(-1, -1, *size)
    return own if own.shape[2:] == size else F.interpolate(own, size=size, mode="bilinear", align_corners=False)
