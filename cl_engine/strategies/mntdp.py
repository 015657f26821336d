"""MNTDP: a library of modules that grows only when a task needs new ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience, Stream
from cl_engine.modules.candidates import Prior, candidates
from cl_engine.modules.growth import Growth
from cl_engine.modules.logged_transfers import LoggedTransfers
from cl_engine.modules.path_fits import PathFits
from cl_engine.modules.shortlist import Shortlist, ranking_log
from cl_engine.modules.trial import Best, Trial
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
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
    sources: Annotated[int, Field(ge=1)] | Literal["gaussian"] = option(
        1,
        "past models whose modules are tried, the best by proxy; gaussian: one, of those whose inputs were most alike",
    )
    scanned: int | None = option(
        None,
        "latest past models that are asked; left out: all; with gaussian: those whose inputs were most alike, 8 if left out",
        ge=1,
        before=None,
    )
    k: int = option(15, "neighbours that vote for a past model", ge=1)
    rows: int = option(1000, "training and validation rows that past models are tried on, at most each", ge=1)
    sources_from: str | None = option(None, "taxonomy's run whose log ranks past tasks, not the proxy", before=None)
    grid: PathGrid
    budget_steps: int | None = option(None, "optimiser steps after which no further path is tried; left out: all are")
    budget_seconds: float | None = option(None, "the same in seconds, for which runs differ with the machine", gt=0)
    _logged: LoggedTransfers | None = None

    def start(self) -> State:
        return {**self._growth.start(), **self._shortlist.start()}

    @property
    def growing(self) -> bool:
        return not self._shortlist.bounded

    def check_stream(self, stream: Stream) -> None:
        self._logged = ranking_log(self.sources == "gaussian", self.sources_from, stream)

    def learn(self, experience: Experience) -> Learning:
        if experience.task_id < len(self.state["paths"]):
            return
        experience = divided(experience, self.grid.aside)
        looked = yield from self._shortlist.tasks(self.state, range(len(self.state["paths"])), experience, self.rows)
        how = {"k": self.k, "rows": self.rows}
        ranked = yield from self._growth.ranked(self.state, experience, **how, logged=self._logged, among=looked)
        best = Best(len(self.seeds), self._growth.depths, self.net.device)
        began, steps, number = time.perf_counter(), 0, 0
        unbound = self.budget_steps is None and self.budget_seconds is None
        for group in self._path_fits.groups(self._trials(experience, ranked), together=unbound):
            fitted = yield from self._path_fits.tried(number, group, experience, best)
            steps += fitted.steps
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
        self._shortlist.keep(self.state, experience, self.rows)

    def logits(self, params: Tree, frozen: Tree | None, x: Tensor) -> Tensor:
        return self._path_fits.logits(params, frozen, x)

    def fitted_rows(self, rows: Sequence[int]) -> Sequence[int]:
        return ()  # where the stream sets no validation rows aside, this strategy does

    def predict(self, x: Tensor, task_id: int | None) -> Tensor:
        return self._growth.predict(self.state, x, task_id)

    def fingerprint(self, task_id: int | None) -> int | None:
        return self._growth.fingerprint(self.state, task_id)

    @cached_property
    def _growth(self) -> Growth:
        return Growth(self.net, self.seeds, self.target_of)

    @cached_property
    def _shortlist(self) -> Shortlist:
        return Shortlist(self.net, "gaussian" if self.sources == "gaussian" else "latest", self.scanned)

    @cached_property
    def _path_fits(self) -> PathFits:
        return PathFits(self, self._growth, self.grid)

    def _trials(self, experience: Experience, ranked: list[list[int]]) -> list[Trial]:
        """Return the paths to be tried, those that reuse most first; all new ones last, and once."""
        growth = self._growth
        path = torch.zeros(len(self.seeds), growth.depths, dtype=torch.int64, device=self.net.device)
        nothing = Trial(path, (False,) * growth.depths)
        found: list[Trial] = []
        most = 1 if self.sources == "gaussian" else self.sources
        for rank, tasks in enumerate(list(zip(*ranked, strict=True))[:most]):
            path, same = growth.paths_of(self.state, tasks), growth.same_outputs(self.state, tasks, experience)
            known = candidates(self.prior, growth.depths, same_outputs=bool(same.any()))
            of_some = (
                None if bool(same.all()) else same
            )  # the head of a task that asks for something else fits no seed's
            found += [
                Trial(path, reuse, rank, tasks, own=of_some if reuse[-1] else None) for reuse in known if any(reuse)
            ]
        return self._path_fits.with_grid([*sorted(found, key=lambda trial: -trial.reused), nothing])

    def _spent(self, steps: int, seconds: float) -> bool:
        return (self.budget_steps is not None and steps >= self.budget_steps) or (
            self.budget_seconds is not None and seconds >= self.budget_seconds
        )

    def _batches(self, experience: Experience) -> int:
        return self.train.batches(len(experience.train))
