"""Fits of paths through a library of modules, side by side where a net gains from that, and what each comes to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.modules.events import CandidateTried
from cl_engine.modules.growth import Growth
from cl_engine.modules.trial import Best, Trial, repeated
from cl_engine.nn.net import Params
from cl_engine.training.candidate_fit import BestFit, CandidateFit, fit_candidates, points_of
from cl_engine.training.fit_job import Judge
from cl_engine.training.grid import Fitter, Grid


class PathLearner(Fitter, Protocol):
    """The attributes of a strategy whose tasks are paths through a library.

    >>> from cl_engine.strategy import Strategy
    >>> Strategy.__name__  # every strategy is one
    'Strategy'
    """

    state: State


@dataclass(frozen=True)
class Fitted:
    """What a group of paths came to: optimiser steps, and for each path how good it is ``[S]``, and its weights.

    >>> Fitted(steps=10, paths=[(torch.tensor([0.9]), {})]).steps
    10
    """

    steps: int
    paths: list[tuple[Tensor, Params]]


class PathFits:
    """Learns the new modules of paths, and keeps what is best on validation rows, seed by seed.

    Paths that are tried together are slots of one fit beside the seeds: masks say which tensors are new in which slot.

    >>> PathFits.__init__.__annotations__["judge"]
    'Judge'

    Attributes:
        judge: what decides which epoch of a fit counts, and which path: the score on validation rows, or the loss.
    """

    def __init__(self, strategy: PathLearner, growth: Growth, grid: Grid, judge: Judge = "accuracy") -> None:
        """Learn paths through this library by the strategy's own `fit`, each with every rate and decay of a grid."""
        self._strategy, self._growth, self._grid, self.judge = strategy, growth, grid, judge

    def with_grid(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return each path once with every rate and decay; one on which nothing is new once."""
        points = self._grid.points(self._strategy.train)
        return [
            replace(trial, lr=lr, weight_decay=decay)
            for trial in trials
            for lr, decay in (points if trial.learns else [(0.0, 0.0)])
        ]

    def all_tried(
        self, number: int, paths: Sequence[Trial], experience: Experience, best: Best
    ) -> Generator[Event, None, list[BestFit]]:
        """Train these paths with the whole grid, the first being the ``number``-th; return what each came to, by path."""
        seeds, device = len(self._strategy.seeds), self._strategy.net.device
        found = [BestFit(seeds, device) for _ in paths]
        trials = [(place, trial) for place, path in enumerate(paths) for trial in self.with_grid([path])]
        place_of = {id(trial): place for place, trial in trials}
        for group in self.groups([trial for _, trial in trials]):
            fitted = yield from self.tried(number, group, experience, best)
            number += len(group)
            for trial, (worth, params) in zip(group, fitted.paths, strict=True):
                found[place_of[id(trial)]].offer(params, worth, {})
        return found

    def groups(self, trials: Sequence[Trial], *, together: bool = True) -> list[list[Trial]]:
        """Return the trials in groups that are trained side by side: those of one rate and decay, or each alone."""
        strategy = self._strategy
        paths = sum(trial.learns for trial in trials) // len(self._grid.points(strategy.train))
        if not (together and strategy.net.side_by_side(paths * len(strategy.seeds))):
            return [[trial] for trial in trials]
        groups: dict[tuple[float, float], list[Trial]] = {}
        for trial in trials:
            if trial.learns:
                groups.setdefault((trial.lr, trial.weight_decay), []).append(trial)
        return [*([trial] for trial in trials if not trial.learns), *groups.values()]

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        """Return logits of one seed along its path: what a strategy's own ``logits`` say while a path is learned."""
        new, kept = params["new"], frozen or {}
        old, mask = kept.get("old", {}), kept.get("mask", {})
        mixed = {name: torch.where(mask[name], new[name], old[name]) for name in mask}
        return self._strategy.net.one({**old, **new, **mixed}, x, statistics=self._growth.tracking(new))

    def tried(
        self, number: int, group: list[Trial], experience: Experience, best: Best
    ) -> Generator[Event, None, Fitted]:
        """Train a group of paths, the first of which is the ``number``-th of the task, and offer each to ``best``."""
        began, seeds, strategy = time.perf_counter(), len(self._strategy.seeds), self._strategy
        growth, batches = self._growth, strategy.train.batches(len(experience.train))
        fresh = growth.fresh(experience.key)
        olds = [growth.along(strategy.state, trial.path) if any(trial.reuse) else fresh for trial in group]
        fitted, found = CandidateFit(), []
        if group[0].learns:
            fitted = yield from fit_candidates(self._fit(group, olds, fresh, experience), len(group))
        for c, (trial, old) in enumerate(zip(group, olds, strict=True)):
            names = set(growth.new_names(trial.reuse))

            def whole(tree: Tree, c: int = c, names: set[str] = names, old: Params = old) -> Params:
                new = tree.get("new", {})
                return {**old, **{n: t[c * seeds : (c + 1) * seeds] for n, t in new.items() if n in names}}

            params = whole(fitted.params)
            accuracy = growth.accuracy(params, experience)
            worth = accuracy if self.judge == "accuracy" else -growth.loss(params, experience)
            found.append((trial.only_its_own(worth, -torch.inf), params))
            moments = {batch: whole(tree) for batch, tree in fitted.moments.items()}
            points = points_of(strategy.curve, batches, strategy.train.epochs, moments, params)
            best.try_path(trial, params, found[-1][0], points)
            said = trial.only_its_own(accuracy, torch.nan).tolist()
            yield CandidateTried(
                step=experience.step,
                task_id=experience.task_id,
                candidate=number + c,
                rank=trial.rank,
                reused=trial.reused,
                first_new=trial.reuse.index(False) if trial.learns else len(trial.reuse),
                lr=trial.lr,
                weight_decay=trial.weight_decay,
                # one NaN is equal to itself, so that two runs tell equal events
                validation=tuple(math.nan if math.isnan(own) else own for own in said),
                flops=fitted.flops,
                seconds=(time.perf_counter() - began) / len(group),
            )
        return Fitted(fitted.epochs * batches, found)

    def _fit(
        self, group: list[Trial], olds: list[Params], fresh: Params, experience: Experience
    ) -> Generator[Event, None, Tree]:
        """Fit the new modules of a group of paths, side by side where there are several."""
        strategy, first = self._strategy, group[0]
        own = [set(self._growth.new_names(trial.reuse)) for trial in group]
        learned = [name for name in fresh if any(name in names for names in own)]
        frozen: Tree = {"old": {name: t for name, t in repeated(olds).items() if name not in own[0] or len(group) > 1}}
        if len(group) > 1:
            flags = {name: torch.tensor([name in names for names in own]) for name in learned}
            seeds, device = len(strategy.seeds), strategy.net.device
            frozen["mask"] = {name: flag.repeat_interleave(seeds).to(device) for name, flag in flags.items()}
        loss: Callable[..., Tensor] = strategy.loss
        return strategy.fit(
            {"new": {name: tensor for name, tensor in repeated([fresh] * len(group)).items() if name in learned}},
            loss,
            experience,
            frozen=frozen,
            train=strategy.train.model_copy(update={"lr": first.lr, "weight_decay": first.weight_decay}),
            validation=(experience.validation.x, experience.validation.y),
            judge=self.judge,
            patience=self._grid.patience,
            seeds=strategy.seeds * len(group),
            candidates=len(group),
            curve=strategy.curve,
            shuffle_group=0,
        )
