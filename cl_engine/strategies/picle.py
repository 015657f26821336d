"""PICLE: a library of modules that is searched by probabilities, at a cost that does not grow with the tasks met."""

from __future__ import annotations

import math
import zlib
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cl_engine.core.bank import Bank
from cl_engine.core.state import State
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Experience
from cl_engine.events import Event
from cl_engine.modules.events import NOBODY, SuffixTried
from cl_engine.modules.growth import Growth
from cl_engine.modules.module_inputs import ModuleInputs
from cl_engine.modules.path_fits import PathFits
from cl_engine.modules.prefix_search import PrefixSearch
from cl_engine.modules.suffix_search import Suffixes, SuffixSearch
from cl_engine.modules.trial import Best, Trial
from cl_engine.options import option
from cl_engine.strategy import Learning, Strategy
from cl_engine.training.candidate_fit import BestFit
from cl_engine.training.grid import Grid, divided

FIRST = 2  # suffixes that are tried before the process is asked
Choice = tuple[int, float] | None  # of a seed: a suffix, and what is expected of it


class Picle(Strategy):
    """PICLE: paths through a library of modules, found by a probabilistic model of them (Valkov et al., ICLR 2024).

    A new task is learned by a new net, by as many prefixes of old modules as a net has depths, each found greedily by
    Gaussians of the modules' inputs and completed by new modules, and by suffixes of old modules behind new first ones, which
    a Gaussian process chooses until no improvement is expected. The path of least loss on validation rows is kept; what is
    new on it joins the library, frozen for ever. So fits a task do not grow with the tasks met, which `mntdp`'s look at all
    past nets does. A task that comes back keeps its path and learns nothing.

    Not as published: the densities are of the outputs of the layer before a module, covariances are shrunk where rows are
    few, the process chooses among the ``suffixes`` that most tasks use and ends after some ``tries``, and each path is tried
    with the scenario's own rate, or a grid.

    >>> from cl_engine.experiment import Experiment
    >>> experiment = Experiment.of("permuted_digits", "picle", **{"shortest": 2})
    >>> experiment.resolved["strategy"]["shortest"]
    2
    """

    settings = ("task",)

    search: list[Literal["prefixes", "suffixes"]] = option(
        ["prefixes", "suffixes"], "what is tried beside a new net: old first modules, old last modules"
    )
    rows: int = option(1000, "training rows that Gaussians are estimated from, and held against, at most", ge=2)
    dimensions: int = option(20, "dimensions that a module's inputs are projected to", ge=1)
    temperature: float = option(0.001, "temperature of the prior: of scores on validation rows", gt=0)
    shortest: int = option(3, "modules of the shortest suffix, at most all but the first", ge=1)
    stored: int = option(40, "inputs kept of each module that such a suffix begins with", ge=1)
    suffixes: int = option(16, "past suffixes among which the process chooses, at most", ge=1)
    tries: int = option(6, "suffixes of the shortest length that are fitted, at most", ge=1)
    improvement: float = option(0.001, "expected improvement of the loss below which no further suffix is tried", ge=0)
    grid: Grid

    def start(self) -> State:
        seeds, device = len(self.seeds), self.net.device
        return {
            **self._growth.start(),
            **self._prefixes.start(seeds, device),
            **self._suffixes.start(seeds, device),
            "asked": Bank.empty(1, (1,), torch.int64, device),
        }

    def learn(self, experience: Experience) -> Learning:
        task, state = experience.task_id, self.state
        if task < len(state["paths"]):
            return
        experience = divided(experience, self.grid.aside)
        rows, asked = experience.train.spread(self.rows).x, self._asked(experience)
        fitting = (state["asked"].rows[0, :, 0] == asked).to(self.net.device)
        best = Best(len(self.seeds), self._growth.depths, self.net.device)
        known = []
        if len(state["paths"]) and "prefixes" in self.search:
            known = yield from self._prefix_trials(experience, rows, fitting)
        nothing = Trial(self._no_path, (False,) * self._growth.depths, source=(NOBODY,) * len(self.seeds))
        tried = yield from self._path_fits.all_tried(0, [nothing, *known], experience, best)
        if len(state["paths"]) and "suffixes" in self.search:
            number = len(self._path_fits.with_grid([nothing, *known]))
            yield from self._suffixes_tried(number, experience, tried[0], fitting.cpu().numpy(), best)
        yield from best.curve(experience.step, self.train.batches(len(experience.train)), self.net.all)
        accuracy = self._growth.accuracy(best.params, experience)
        yield from self._growth.keep(
            state, experience, best.params, best.path, best.new, source=best.source.tolist(), validation=accuracy
        )
        self._prefixes.keep(state, experience, rows, accuracy)
        self._suffixes.keep(state, task, best.new[:, self._suffixes.depth % self._growth.depths], rows)
        state["asked"].put(task, torch.tensor([[asked]]))

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
    def _inputs(self) -> ModuleInputs:
        return ModuleInputs(self.net, self.dimensions)

    @cached_property
    def _prefixes(self) -> PrefixSearch:
        return PrefixSearch(self._growth, self._inputs, self.temperature)

    @cached_property
    def _suffixes(self) -> SuffixSearch:
        how = {"shortest": self.shortest, "stored": self.stored, "most": self.suffixes}
        return SuffixSearch(self._growth, self._inputs, **how)

    @cached_property
    def _path_fits(self) -> PathFits:
        return PathFits(self, self._growth, self.grid, judge="loss")

    @property
    def _no_path(self) -> Tensor:
        return torch.zeros(len(self.seeds), self._growth.depths, dtype=torch.int64, device=self.net.device)

    def _asked(self, experience: Experience) -> int:
        """Return a number that two tasks share whose heads would fit each other."""
        return zlib.crc32(f"{experience.classes} {self.target_of(experience.task_id).key}".encode())

    def _prefix_trials(self, experience: Experience, x: Tensor, fitting: Tensor) -> Generator[Event, None, list[Trial]]:
        found = yield from self._prefixes.found(self.state, experience, x, fitting)
        return [
            Trial(
                found.path,
                tuple(depth < length for depth in range(self._growth.depths)),
                source=tuple(found.source[:, length - 1].tolist()),
            )
            for length in range(1, found.longest + 1)
        ]

    def _suffixes_tried(
        self, number: int, experience: Experience, new: BestFit, fitting: np.ndarray, best: Best
    ) -> Learning:
        """Try suffixes, of each seed those that its own process chooses, and then longer ones of the best."""
        among = [
            self._suffixes.among(self.state, seed, fitting, new.params, self.improvement)
            for seed in range(len(self.seeds))
        ]
        for own, worth in zip(among, new.accuracy.tolist(), strict=True):
            if own is not None:
                own.surrogate.observe(len(own.owners), -worth)
        shortest = self._growth.depths - self._suffixes.depth
        first = min(FIRST, self.tries)
        firsts = [[] if own is None else own.surrogate.central(first) for own in among]
        rounds = [[(own[k], math.nan) if k < len(own) else None for own in firsts] for k in range(first)]
        for left in range(self.tries - first, -1, -1):
            number = yield from self._tried(number, shortest, rounds, among, experience, best)
            rounds = [[own.surrogate.next() if left and own is not None else None for own in among]]
        longer: list[Choice] = []
        for own in among:
            best_known = None if own is None else own.surrogate.best
            new_net = own is None or best_known == len(own.owners)
            longer.append(None if new_net or best_known is None else (best_known, math.nan))
        for length in range(shortest + 1, self._growth.depths + 1):
            number = yield from self._tried(number, length, [longer], among, experience, best)

    def _tried(
        self,
        number: int,
        length: int,
        rounds: Sequence[Sequence[Choice]],
        among: Sequence[Suffixes | None],
        experience: Experience,
        best: Best,
    ) -> Generator[Event, None, int]:
        """Try suffixes of one length, one a seed and round; return the number of the path that comes after them."""
        growth, device, trials = self._growth, self.net.device, []
        rounds = [each for each in rounds if any(own is not None for own in each)]
        if not rounds:
            return number
        for each in rounds:
            source = tuple(
                NOBODY if one is None or own is None else own.owners[one[0]]
                for one, own in zip(each, among, strict=True)
            )
            trials.append(
                Trial(
                    growth.paths_of(self.state, [max(task, 0) for task in source]),
                    tuple(depth >= growth.depths - length for depth in range(growth.depths)),
                    source=source,
                    own=torch.tensor([task != NOBODY for task in source], device=device),
                )
            )
        found = yield from self._path_fits.all_tried(number, trials, experience, best)
        for each, trial, fitted in zip(rounds, trials, found, strict=True):
            losses = [-worth for worth in fitted.accuracy.tolist()]
            for one, own, loss in zip(each, among, losses, strict=True):
                if one is not None and own is not None and length == growth.depths - self._suffixes.depth:
                    own.surrogate.observe(one[0], loss)
            yield SuffixTried(
                step=experience.step,
                task_id=experience.task_id,
                candidate=number,
                length=length,
                source=trial.source or (),
                loss=tuple(math.nan if one is None else loss for one, loss in zip(each, losses, strict=True)),
                improvement=tuple(math.nan if one is None else one[1] for one in each),
            )
            number += len(self._path_fits.with_grid([trial]))
        return number
