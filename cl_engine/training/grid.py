"""Choice of learning rate, weight decay and epoch for each task, on validation rows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Protocol

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience, Stream
from cl_engine.errors import UsageError
from cl_engine.events import Event, Seconds, StrategyEvent
from cl_engine.nn.learner import Learner
from cl_engine.nn.target import quality
from cl_engine.options import OptionGroup, option
from cl_engine.training.candidate_fit import BestFit, fit_candidates, points_of
from cl_engine.training.fit_job import Curve
from cl_engine.training.optimizers import Train


class Grid(OptionGroup):
    """Rates and decays that a task is tried with; the best epoch of the best of them counts, by validation rows.

    Nothing is tried where both lists are empty: ``train`` then says the rate and the decay, and the last epoch counts.

    >>> Grid(lrs=[1e-2, 1e-3]).points(Train(lr=0.1, weight_decay=1e-4))
    [(0.01, 0.0001), (0.001, 0.0001)]
    """

    lrs: list[float] = option([], "learning rates that each task is tried with; none: train.lr", before=[])
    weight_decays: list[float] = option(
        [], "weight decays that each task is tried with; none: train.weight_decay", before=[]
    )
    patience: int | None = option(
        None, "epochs without a better one after which a try is given up; left out: never", before=None
    )
    aside: float = option(
        0.2,
        "share of the training rows that is chosen on, where the stream sets no validation rows aside",
        gt=0,
        lt=1,
        before=0.2,
    )

    @property
    def asked(self) -> bool:
        """Whether anything is to be chosen."""
        return bool(self.lrs or self.weight_decays)

    def check_stream(self, stream: Stream) -> None:
        """Raise a `UsageError` if there is something to be chosen, and each seed has validation rows of its own."""
        if self.asked and stream.per_seed:
            raise UsageError(
                "strategy.lrs and strategy.weight_decays are chosen on the same validation rows for all seeds, and with "
                "stream.per_seed each has rows of its own: leave one of them out, or let a sweep go through the rates"
            )

    def points(self, train: Train) -> list[tuple[float, float]]:
        """Return the pairs of rate and decay; those of ``train`` in the place of an empty list."""
        return list(product(self.lrs or [train.lr], self.weight_decays or [train.weight_decay]))


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPointTried(StrategyEvent):
    """A task was learned with one rate and decay: what the best epoch reached on validation rows, by seed (more is better).

    ``flops`` are the operations of training, one seed's.

    >>> event = GridPointTried(step=3, task_id=2, lr=0.01, weight_decay=0.0, validation=(0.9, 0.8), flops=1e9, seconds=0.1)
    >>> event.validation
    (0.9, 0.8)
    """

    task_id: int
    lr: float
    weight_decay: float
    validation: tuple[float, ...]
    flops: float
    seconds: Seconds = field(compare=False)


class Fitter(Learner, Protocol):
    """The attributes of a strategy that a choice among fits uses.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy is one
    'Strategy'
    """

    train: Train
    curve: Curve

    @property
    def fit(self) -> Callable[..., Generator[Event, None, Tree]]:
        """Train weights on an experience, as `Strategy.fit` does."""
        ...

    @property
    def loss(self) -> Callable[..., Tensor]:
        """The loss of one seed on a batch."""
        ...

    @property
    def logits(self) -> Callable[..., Tensor]:
        """The logits of one seed."""
        ...


def fit_best(
    strategy: Fitter,
    grid: Grid,
    start: Tree,
    experience: Experience,
    *,
    frozen: Tree | None = None,
    shares: Mapping[str, float] | None = None,
) -> Generator[Event, None, Tree]:
    """Fit ``start`` to the experience and return the new weights: of the last epoch, or, where asked, the best of a grid.

    Each rate and decay begins at ``start`` and sees the rows in the same order; of each the epoch that is best on
    validation rows counts, and of several equal ones the first. Rows that are set aside are not learned from. ``shares`` are
    factors of the rate for parts of ``start``, by top-level key.
    """
    overrides = partial(_overrides, shares or {})
    if not grid.asked:
        how = overrides(strategy.train)
        return (yield from strategy.fit(start, strategy.loss, experience, frozen=frozen, overrides=how))
    experience = divided(experience, grid.aside)
    rows, net = experience.validation, strategy.net
    per_epoch = strategy.train.batches(len(experience.train))

    def answers(params: Tree, x: Tensor) -> Tensor:
        tree: dict[str, Any] = {"params": params, **({} if frozen is None else {"frozen": frozen})}
        return net.over_seeds(lambda own, part: strategy.logits(own["params"], own.get("frozen"), part), tree, x)

    best = BestFit(len(strategy.seeds), net.device)
    for lr, decay in grid.points(strategy.train):
        began = time.perf_counter()
        train = strategy.train.model_copy(update={"lr": lr, "weight_decay": decay})
        fitting = strategy.fit(
            start,
            strategy.loss,
            experience,
            frozen=frozen,
            train=train,
            overrides=overrides(train),
            validation=(rows.x, rows.y),
            patience=grid.patience,
            curve=strategy.curve,
            shuffle_group=0,
        )
        fitted = yield from fit_candidates(fitting, 1)
        score = quality(strategy.target, answers(fitted.params, rows.x), rows.y)
        points = points_of(strategy.curve, per_epoch, strategy.train.epochs, fitted.moments, fitted.params)
        best.offer(fitted.params, score, points)
        yield GridPointTried(
            step=experience.step,
            task_id=experience.task_id,
            lr=lr,
            weight_decay=decay,
            validation=tuple(score.tolist()),
            flops=fitted.flops,
            seconds=time.perf_counter() - began,
        )
    yield from best.curve(experience.step, per_epoch, answers)
    return best.params


def _overrides(shares: Mapping[str, float], train: Train) -> dict[str, Train]:
    return {key: train.model_copy(update={"lr": train.lr * share}) for key, share in shares.items()}


def divided(experience: Experience, share: float) -> Experience:
    """Return the experience with some of its training rows as validation rows, the same share of each class if there are any.

    The only row of a class is among both. An experience that has validation rows is returned as it is.
    """
    if len(experience.validation):
        return experience
    train = experience.train
    draw = rng.tensors(0, "aside", experience.key)
    shuffled = torch.randperm(len(train), generator=draw).to(train.y.device)
    aside, alone = (torch.zeros(len(train), dtype=torch.bool, device=train.y.device) for _ in range(2))
    groups = train.y if train.y.ndim == 1 and not train.y.is_floating_point() else torch.zeros_like(shuffled)
    for label in groups.unique():
        rows = shuffled[groups[shuffled] == label]
        aside[rows[: max(1, round(share * len(rows)))]] = True
        alone[rows] = len(rows) == 1
    kept = train.at(torch.nonzero(~aside | alone).squeeze(1))
    return dataclasses.replace(experience, train=kept, validation=Data(train.x[aside], train.y[aside]))


def none_lost(experience: Experience, share: float, where: str) -> Experience:
    """Return the same as `divided`, every class left to train on.

    Raises:
        UsageError: if the share, said in the option ``where``, takes all of several rows of a class.
    """
    part, y = divided(experience, share), experience.train.y
    of_classes = y.ndim == 1 and not y.is_floating_point()
    if not (torch.isin(y, part.train.y).all() if of_classes else len(part.train)):
        raise UsageError(
            f"{where}: {share:.3g} leaves no row of a class of task {experience.task_id} to train on: lower it, or let the "
            "stream have more rows a class"
        )
    return part
