"""Search of the axes: all points, random ones, or, one after the other, what Optuna proposes."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from cl_engine.errors import UsageError
from cl_engine.sweep.axes import Axes, Point, Range, grid, random
from cl_engine.sweep.combinations import Cell, Combination, cells
from cl_engine.sweep.config import SweepOptions
from cl_engine.sweep.folder import Entry


def points(options: SweepOptions, axes: Axes) -> list[Point]:
    """Return the points of a search that knows them beforehand."""
    if options.search == "random":
        return list(random(axes, options.trials, options.search_seed))
    return list(grid(axes))


class Adaptive:
    """Optuna's proposals: a study for each cell, whose state follows from the sweep's folder.

    >>> Adaptive.__name__  # search = "optuna" in a sweep makes one
    'Adaptive'

    Raises:
        UsageError: if Optuna is not installed, or nothing is varied.
    """

    def __init__(self, options: SweepOptions, axes: Axes, known: Iterable[Entry], scores: Mapping[str, float]) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UsageError("search = 'optuna' needs Optuna: pip install -e '.[optuna]'")
        if not axes:
            raise UsageError("search = 'optuna' needs something to vary: --set train.lr=log:1e-4..1e-1")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna, self.options, self.axes = optuna, options, axes
        self.cells: list[Cell] = cells(options)
        self.distributions = {key: _distribution(optuna, axis) for key, axis in axes.items()}
        self.studies: list[Any] = []
        self.restored: list[tuple[Combination, dict[str, Any]]] = []  # runs of trials that were asked for before
        self.asked: dict[str, list[tuple[int, Any]]] = {}  # trials that wait for a result, by the hash of their run
        known = list(known)
        for number in range(len(self.cells)):
            self._study(number, known, scores)

    def proposed(self) -> tuple[Combination, dict[str, Any]] | None:
        """Return the next proposal, and what is to be kept about it; None when all trials are asked for.

        A proposal may be one that was made before: whoever knows its result tells it again.

        Raises:
            UsageError: if what is proposed cannot be run; the next call proposes something else.
        """
        counts = [len(study.trials) for study in self.studies]
        number = min(range(len(counts)), key=lambda k: counts[k])
        if counts[number] >= self.options.trials:
            return None
        trial = self.studies[number].ask(self.distributions)
        try:
            combination = self._combination(number, trial.params)
        except UsageError:
            self.studies[number].tell(trial, state=self.optuna.trial.TrialState.FAIL)
            raise
        self.asked.setdefault(combination.hash, []).append((number, trial))
        return combination, {"cell": number, "params": [trial.params]}

    def tell(self, hash: str, score: float, chosen_on: str = "") -> None:
        """Take in what the objective of a finished run is, and by which rows; NaN: it failed."""
        failed = math.isnan(score)
        state = self.optuna.trial.TrialState.FAIL if failed else None
        for number, trial in self.asked.pop(hash, []):
            self.studies[number].tell(trial, None if failed else score, state=state)
            if not failed:
                self.studies[number].set_user_attr("chosen_on", chosen_on)

    def _study(self, number: int, known: list[Entry], scores: Mapping[str, float]) -> None:
        """Begin the study of a cell with the trials that were asked for before."""
        optuna = self.optuna
        earlier = [entry for entry in known if entry.trial.get("cell") == number]
        count = sum(len(entry.trial["params"]) for entry in earlier)
        seed = (self.options.search_seed * 1_000_003 + number * 1009 + count) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", optuna.exceptions.ExperimentalWarning
            )  # constant_liar, asked for on purpose
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        direction = "maximize" if self.options.better > 0 else "minimize"
        study = optuna.create_study(sampler=sampler, direction=direction)
        self.studies.append(study)
        for entry in earlier:
            for params in entry.trial["params"]:
                study.enqueue_trial(params)
                trial = study.ask(self.distributions)
                combination = self._combination(number, trial.params)
                self.asked.setdefault(combination.hash, []).append((number, trial))
                self.restored.append((combination, {"cell": number, "params": [params]}))
            if entry.name in scores:
                self.tell(entry.hash, scores[entry.name])

    def _combination(self, number: int, params: Mapping[str, Any]) -> Combination:
        point: Point = {key: self._value(key, value) for key, value in params.items()}
        return self.cells[number].combination(point, self.options.strategies)

    def _value(self, key: str, value: Any) -> Any:
        """Return what Optuna proposes as the option takes it: of listed values it is told the places."""
        axis = self.axes[key]
        if isinstance(axis, Range):
            return int(value) if axis.whole else float(f"{value:.3g}")
        return axis[int(value)]


def _distribution(optuna: Any, axis: Any) -> Any:
    if not isinstance(axis, Range):
        return optuna.distributions.CategoricalDistribution(list(range(len(axis))))
    if axis.whole:
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
