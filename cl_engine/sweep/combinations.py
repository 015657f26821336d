"""From axes to experiments: every combination an `Experiment` of its own, no two the same."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cl_engine.errors import UsageError, unknown
from cl_engine.experiment import Experiment
from cl_engine.runs import importing, plugins
from cl_engine.runs.resolved_options import in_another_table
from cl_engine.runs.scenario import TABLES, Scenario
from cl_engine.sweep.axes import Axes, Point
from cl_engine.sweep.config import SweepOptions
from cl_engine.training.optimizers import Train

REFERENCE = "independent"
SHARED = ("stream", "net", "backbone", "agenda")  # the tables that a reference run has in common with what it is for
SHOWN_ERRORS = 10


@dataclass(frozen=True)
class Combination:
    """An experiment of the sweep, and the options that were varied.

    >>> from cl_engine.testing import small
    >>> Combination(Experiment.of(small.scenario(), "finetune"), {"train.lr": 0.1}).name[:24]
    'small-finetune-lr=0.1-se'

    Attributes:
        experiment: what is run.
        changes: the options that the sweep sets in it, by the keys they were given.
        reference: whether it was added as the reference for transfer.
    """

    experiment: Experiment
    changes: Point = field(default_factory=dict)
    reference: bool = False

    @cached_property
    def name(self) -> str:
        """Name of the run's folder: scenario, strategy, changes, seed if it has one, hash."""
        seeds = self.experiment.seeds
        parts = [f"{key.rpartition('.')[2]}={_short(value)}" for key, value in self.changes.items()]
        parts += [f"seed={seeds[0]}"] if len(seeds) == 1 else []
        said = re.sub(r"[^A-Za-z0-9.=+-]+", "_", "-".join(parts))[:80]
        return "-".join(part for part in (self.experiment.folder.name[: -len(self.hash) - 1], said, self.hash) if part)

    @cached_property
    def hash(self) -> str:
        """The experiment's."""
        return self.experiment.hash

    @property
    def kind(self) -> str:
        """Scenario and strategy: what runs have in common that take about the same."""
        return f"{self.experiment.scenario}-{self.experiment.strategy}"


@dataclass(frozen=True)
class Cell:
    """One scenario with one strategy, task order and seeds: points of the axes are tried within it.

    >>> from cl_engine.testing import small
    >>> Cell(small.scenario(), "finetune", None, (0,)).combination({"train.lr": 0.1}, ["finetune"]).changes
    {'train.lr': 0.1}
    """

    scenario: Scenario
    strategy: str
    order: int | None
    seeds: tuple[int, ...]

    def combination(self, point: Point, strategies: Iterable[str]) -> Combination:
        """Return the experiment at a point; what does not concern this cell's strategy is left out of it."""
        with importing.looking_beside(self.scenario.folder):
            changes = own(point, self.strategy, strategies, self.scenario)
        if self.order is not None:
            changes["stream.task_order"] = self.order
        return Combination(Experiment.of(self.scenario, self.strategy, self.seeds, **changes), changes)


def cells(options: SweepOptions) -> list[Cell]:
    """Return the cells of a sweep: scenarios × strategies × orders × groups of seeds.

    Raises:
        UsageError: if there is no such scenario or strategy.
    """
    scenarios = [Scenario.load(name) for name in dict.fromkeys(options.scenarios)]
    paths: dict[str, str] = {}
    for asked, scenario in zip(dict.fromkeys(options.scenarios), scenarios, strict=True):
        if paths.setdefault(scenario.name, asked) != asked:
            raise UsageError(
                f"scenarios: '{paths[scenario.name]}' and '{asked}' are both called '{scenario.name}'; rename one of the files"
            )
    orders: list[int | None] = list(range(options.orders)) or [None]
    strategies = list(dict.fromkeys(options.strategies))
    return [
        Cell(scenario, strategy, order, seeds)
        for scenario in scenarios
        for strategy in strategies
        for order in orders
        for seeds in options.groups
    ]


def own(point: Point, strategy: str, strategies: Iterable[str], scenario: Scenario | None = None) -> Point:
    """Return what of a point concerns a strategy, by the keys that ``Experiment.of`` takes.

    A key is ``TABLE.option`` (all strategies), ``STRATEGY.option`` or ``STRATEGY.TABLE.option`` (that strategy), or an
    ``option`` alone: the strategies' that have it, or, if none has, that of ``[train]``. With the ``scenario``, one that another
    of its tables has is hinted at.

    Raises:
        UsageError: if no strategy, and not ``[train]``, has such an option, or one of training is there by both its keys.
    """
    names = sorted(set(strategies), key=len, reverse=True)
    general: Point = {}
    special: Point = {}
    for key, value in point.items():
        owner = next((name for name in names if key.startswith(f"{name}.")), None)
        if owner is not None:
            if owner == strategy:
                special[key[len(owner) + 1 :]] = value
        elif "." in key:
            general[key] = value
        elif any(_has(name, key) for name in names):
            if _has(strategy, key):
                general[key] = value
        elif key in Train.model_fields:
            if f"train.{key}" in point:
                raise UsageError(f"set.{key} and set.train.{key} are one and the same option: give it once")
            general[f"train.{key}"] = value
        else:
            options = {option for name in names for option in plugins.load("strategies", name).Options.model_fields}
            meant = "" if scenario is None else in_another_table(scenario, key)
            kind = f"option of {' or '.join(sorted(names))}, or of [train],"
            raise unknown(kind, key, {*options, *Train.model_fields}, meant)
    return {**general, **special}


def expanded(options: SweepOptions, points: Iterable[Point]) -> list[Combination]:
    """Return the experiments of a sweep at the given points of its axes, each once, references first.

    Raises:
        UsageError: naming all that is wrong with any of them.
    """
    found: dict[str, Combination] = {}
    wrong: dict[str, None] = {}
    places, listed = cells(options), list(points)
    for cell in places:
        for point in listed:
            try:
                combination = cell.combination(point, options.strategies)
            except UsageError as error:
                wrong |= dict.fromkeys(str(error).split("; "))
            else:
                found.setdefault(combination.hash, combination)
    if wrong:
        more = [f"and {len(wrong) - SHOWN_ERRORS} more"] if len(wrong) > SHOWN_ERRORS else []
        raise UsageError("; ".join([*list(wrong)[:SHOWN_ERRORS], *more]))
    added = references(found.values()) if options.reference else []
    return [*added, *found.values()]


def references(combinations: Iterable[Combination]) -> list[Combination]:
    """Return the reference runs that are not among the combinations: one for each stream, net and seeds."""
    combinations = list(combinations)
    there = {_compared(each.experiment) for each in combinations if each.experiment.strategy == REFERENCE}
    added: dict[str, Combination] = {}
    for each in combinations:
        if _compared(each.experiment) in there:
            continue
        there.add(_compared(each.experiment))
        shared = {key: value for key, value in each.changes.items() if key.startswith(tuple(f"{t}." for t in SHARED))}
        scenario = _scenario_of(each.experiment)
        reference = Experiment.of(scenario, REFERENCE, each.experiment.seeds, **shared)
        added.setdefault(reference.hash, Combination(reference, shared, reference=True))
    return list(added.values())


def check_keys(axes: Axes, strategies: Iterable[str]) -> None:
    """Refuse axes that no strategy of the sweep and no table could have, all at once.

    Raises:
        UsageError: naming them.
    """
    strategies, wrong = list(strategies), []
    for key in axes:
        owner = next((name for name in strategies if key.startswith(f"{name}.")), None)
        table = key.partition(".")[0]
        if "." in key and owner is None and table not in TABLES[:-1]:
            allowed = [*TABLES[:-1], *strategies]
            near = difflib.get_close_matches(table, allowed, n=1)
            hint = f" (did you mean '{near[0]}.…'?)" if near else ""
            wrong.append(
                f"set.{key}: '{table}' is neither a table nor a strategy of this sweep{hint}; "
                f"there are: {', '.join(allowed)}"
            )
    if wrong:
        raise UsageError("; ".join(wrong))


def _scenario_of(experiment: Experiment) -> Scenario:
    tables = tomllib.loads(experiment.text)
    return Scenario.of(experiment.scenario, tables, experiment.text, folder=experiment.beside)


def _compared(experiment: Experiment) -> str:
    """Return what must be the same for one run to be the reference of another, as text."""
    options = experiment.resolved
    parts = [options["stream"], options["net"], options.get("backbone"), experiment.seeds]
    return json.dumps(parts, sort_keys=True)


def _has(strategy: str, option: str) -> bool:
    model = plugins.load("strategies", strategy).Options
    return option in model.model_fields or model.model_config.get("extra") == "allow"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def told(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment as plain data, for `restored` in another process."""
    return {**vars(experiment), "unsaid": sorted(experiment.unsaid)}


def restored(tables: Mapping[str, Any]) -> Experiment:
    """Return an experiment from what `told` returned."""
    return Experiment(**{**tables, "seeds": tuple(tables["seeds"]), "unsaid": frozenset(tables["unsaid"])})
