"""MNTDP: a library of modules that grows only when a task needs new ones."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.events import Event
from cl_engine.modules.candidates import Prior, candidates
from cl_engine.modules.events import CandidateTried
from cl_engine.modules.growth import Growth
from cl_engine.modules.logged_transfers import LoggedTransfers, logged_transfers
from cl_engine.modules.trial import Best, Trial, repeated
from cl_engine.nn.net import Params
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.candidate_fit import CandidateFit, fit_candidates, points_of
from cl_engine.training.grid import Grid, divided


class PathGrid(Grid):
    """Rates and decays that each path is tried with (Veniat et al. 2021).

    >>> PathGrid().lrs
    [0.01, 0.001]
    """

    lrs: list[float] = option([1e-2, 1e-3], "learning rates that each path is tried with; none: train.lr")
    weight_decays: list[float] = option(
        [0.0, 1e-4, 1e-5], "weight decays that each path is tried with; none: train.weight_decay"
    )
    # these two were this strategy's before they were a grid's
    patience: int | None = option(None, "epochs without a better one after which a path is given up; left out: never")
    aside: float = option(
        0.2,
        "share of the training rows that paths are chosen on, where the stream sets no validation rows aside",
        gt=0,
        lt=1,
    )


class Mntdp(Strategy):
    """MNTDP-D: modular networks with a task-driven prior, the deterministic search (Veniat, Denoyer & Ranzato 2021).

    A new task asks its validation rows which past model's features suit it best (nearest neighbours), and tries the
    paths that reuse some of that model's modules and learn the others anew, each over a grid of rates and decays, with
    the weights of the epoch that was best on validation rows. The best path is kept, of several equal ones that which
    reuses more. Modules are frozen for ever, each is kept once. A task that comes back keeps its path and learns nothing.
    Paths are trained side by side where the net gains from that, otherwise in turn.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "mntdp", **{"sources": 2})
    >>> experiment.resolved["strategy"]["sources"]
    2
    """

    settings = ("task",)
    cost: ClassVar[Literal["flat", "growing"]] = "growing"

    prior: Prior = option("forward", "paths tried: old modules first, also old modules last, or between old ones too")
    sources: int = option(1, "past models whose modules are tried, the best by proxy", ge=1)
    k: int = option(15, "neighbours that vote for a past model", ge=1)
    rows: int = option(1000, "training and validation rows that past models are tried on, at most each", ge=1)
    sources_from: str | None = option(None, "taxonomy's run whose log ranks past tasks, not the proxy", before=None)
    grid: PathGrid
    budget_steps: int | None = option(None, "optimiser steps after which no further path is tried; left out: all are")
    budget_seconds: float | None = option(None, "the same in seconds, for which runs differ with the machine", gt=0)
    _logged: LoggedTransfers | None = None

    def start(self) -> State:
        return self._growth.start()

    def check_stream(self, stream: Stream) -> None:
        self._logged = logged_transfers(self.sources_from, stream, "strategy.sources_from")

    def learn(self, experience: Experience) -> Learning:
        if experience.task_id < len(self.state["paths"]):
            return
        experience = divided(experience, self.grid.aside)
        ranked = yield from self._growth.ranked(self.state, experience, k=self.k, rows=self.rows, logged=self._logged)
        best = Best(len(self.seeds), self._growth.depths, self.net.device)
        began, steps, number = time.perf_counter(), 0, 0
        for group in self._groups(self._trials(experience, ranked)):
            steps += yield from self._tried(number, group, experience, best)
            number += len(group)
            if self._spent(steps, time.perf_counter() - began):
                break
        yield from best.curve(experience.step, self._batches(experience), self.net.all)
        yield from self._growth.keep(
            self.state,
            experience,
            best.params,
            best.path,
            best.new,
            source=best.source.tolist(),
            validation=best.accuracy,
        )

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        new, kept = params["new"], frozen or {}
        old, mask = kept.get("old", {}), kept.get("mask", {})
        mixed = {name: torch.where(mask[name], new[name], old[name]) for name in mask}
        return self.net.one({**old, **new, **mixed}, x, statistics=self._growth.tracking(new))

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return ()  # where the stream sets no validation rows aside, this strategy does

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self._growth.predict(self.state, x, task_id)

    def fingerprint(self, task_id: int | None) -> int | None:
        return self._growth.fingerprint(self.state, task_id)

    @cached_property
    def _growth(self) -> Growth:
        return Growth(self.net, self.seeds, self.target_of)

    def _trials(self, experience: Experience, ranked: list[list[int]]) -> list[Trial]:
        """Return the paths to be tried, those that reuse most first; all new ones last, and once."""
        growth = self._growth
        path = torch.zeros(len(self.seeds), growth.depths, dtype=torch.int64, device=self.net.device)
        nothing = Trial(path, (False,) * growth.depths)
        found: list[Trial] = []
        for rank, tasks in enumerate(list(zip(*ranked, strict=True))[: self.sources]):
            path, same = growth.paths_of(self.state, tasks), growth.same_outputs(self.state, tasks, experience)
            known = candidates(self.prior, growth.depths, same_outputs=same)
            found += [Trial(path, reuse, rank, tasks) for reuse in known if any(reuse)]
        found = [*sorted(found, key=lambda trial: -trial.reused), nothing]
        grid = self.grid.points(self.train)
        return [
            replace(trial, lr=lr, weight_decay=decay)
            for trial in found
            for lr, decay in (grid if trial.learns else [(0.0, 0.0)])
        ]

    def _groups(self, trials: list[Trial]) -> list[list[Trial]]:
        """Return the trials in groups that are trained side by side: those of one rate and decay, or each alone."""
        paths = sum(trial.learns for trial in trials) // len(self.grid.points(self.train))
        unbound = self.budget_steps is None and self.budget_seconds is None
        if not (unbound and self.net.side_by_side(paths * len(self.seeds))):
            return [[trial] for trial in trials]
        groups: dict[tuple[float, float], list[Trial]] = {}
        for trial in trials:
            if trial.learns:
                groups.setdefault((trial.lr, trial.weight_decay), []).append(trial)
        return [*([trial] for trial in trials if not trial.learns), *groups.values()]

    def _spent(self, steps: int, seconds: float) -> bool:
        return (self.budget_steps is not None and steps >= self.budget_steps) or (
            self.budget_seconds is not None and seconds >= self.budget_seconds
        )

    def _tried(
        self, number: int, group: list[Trial], experience: Experience, best: Best
    ) -> Generator[Event, None, int]:
        """Train a group of paths, offer each to ``best`` and return the optimiser steps that took."""
        began, seeds = time.perf_counter(), len(self.seeds)
        fresh = self._growth.fresh(experience.key)
        olds = [self._growth.along(self.state, trial.path) if any(trial.reuse) else fresh for trial in group]
        fitted = CandidateFit()
        if group[0].learns:
            fitted = yield from fit_candidates(self._fit(group, olds, fresh, experience), len(group))
        for c, (trial, old) in enumerate(zip(group, olds, strict=True)):
            names = set(self._growth.new_names(trial.reuse))

            def whole(tree: Tree, c: int = c, names: set[str] = names, old: Params = old) -> Params:
                new = tree.get("new", {})
                return {**old, **{n: t[c * seeds : (c + 1) * seeds] for n, t in new.items() if n in names}}

            params = whole(fitted.params)
            accuracy = self._growth.accuracy(params, experience)
            moments = {batch: whole(tree) for batch, tree in fitted.moments.items()}
            points = points_of(self.curve, self._batches(experience), self.train.epochs, moments, params)
            best.try_path(trial, params, accuracy, points)
            yield CandidateTried(
                step=experience.step,
                task_id=experience.task_id,
                candidate=number + c,
                rank=trial.rank,
                reused=trial.reused,
                first_new=trial.reuse.index(False) if trial.learns else len(trial.reuse),
                lr=trial.lr,
                weight_decay=trial.weight_decay,
                validation=tuple(accuracy.tolist()),
                flops=fitted.flops,
                seconds=(time.perf_counter() - began) / len(group),
            )
        return fitted.epochs * self._batches(experience)

    def _fit(
        self, group: list[Trial], olds: list[Params], fresh: Params, experience: Experience
    ) -> Generator[Event, None, Tree]:
        """Fit the new modules of a group of paths, side by side where there are several."""
        seeds, first = len(self.seeds), group[0]
        own = [set(self._growth.new_names(trial.reuse)) for trial in group]
        learned = [name for name in fresh if any(name in names for names in own)]
        frozen: Tree = {"old": {name: t for name, t in repeated(olds).items() if name not in own[0] or len(group) > 1}}
        if len(group) > 1:
            flags = {name: torch.tensor([name in names for names in own]) for name in learned}
            device = self.net.device
            frozen["mask"] = {name: flag.repeat_interleave(seeds).to(device) for name, flag in flags.items()}
        return self.fit(
            {"new": {name: tensor for name, tensor in repeated([fresh] * len(group)).items() if name in learned}},
            self.loss,
            experience,
            frozen=frozen,
            train=self.train.model_copy(update={"lr": first.lr, "weight_decay": first.weight_decay}),
            validation=(experience.validation.x, experience.validation.y),
            patience=self.grid.patience,
            seeds=self.seeds * len(group),
            candidates=len(group),
            curve=self.curve,
            shuffle_group=0,
        )

    def _batches(self, experience: Experience) -> int:
        return self.train.batches(len(experience.train))
