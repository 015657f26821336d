"""Affinities between tasks: what every way to answer a task is worth, by seed, from the outcomes of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cl_engine.analysis.taxonomy.ahp import borda, bradley_terry, principal, win_rates
from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.results.run import Run
from cl_engine.results.transfers import Kind, Transfer, Transfers

Array = np.ndarray
Outcomes = Literal["errors", "losses"]
RANKED = (
    "full",
    "transfer",
    "untrained",
)  # the candidates of a target; scratch and copies are what these are held against


@dataclass(frozen=True)
class Way:
    """A way to answer a task, and what it is worth in each seed ``[S]``; NaN in seeds that did not probe it.

    >>> Way(2, (0, 1), "transfer", 400, {"quality": np.array([0.4, 0.6])}).mean("quality")
    0.5

    Attributes:
        values: ``affinity`` (AHP), ``borda`` and ``bradley_terry`` (each sums to 1 over a target's candidates), ``quality`` (win
            rate against the target's net with all labels), ``gain`` (against a whole net from the labels of the transfer),
            ``matched_gain`` (against as many nets that know the target alone), ``score`` (the target's measure), and quality and
            gain by the other kind of outcome, ``quality_by_losses`` and so on.
    """

    target: int
    sources: tuple[int, ...]
    kind: Kind
    labels: int
    values: Mapping[str, Array] = field(repr=False)

    def mean(self, name: str) -> float:
        """Return a value's mean over the seeds; NaN where one of them has none."""
        return float(self.values[name].mean())


@dataclass(frozen=True)
class Affinities:
    """All ways to answer all tasks of a run, held against each other.

    >>> probed = (Transfer(0, (), "full", 9, np.array([0.1]), np.array([0.0]), 1.0),)
    >>> found = affinities_of([Transfers(0, ("digit",), (9,), frozenset(), probed)])
    >>> found.ways[0].mean("quality")
    0.5

    Attributes:
        names: of the tasks, in the stream's order.
        labels: training rows with labels that each task has.
        free: tasks whose labels cost nothing.
        seeds: the run's seeds.
        outcomes: what decides whether a row is won: ``errors`` (0 or 1 for classes, with ties; else the loss) or ``losses``.
        higher: whether more of the one measure of all tasks is better; None: they are measured by several things.
        ways: by target, in the order in which they were probed.
        consistency: the ratio of the comparisons of each target's candidates ``[T, S]``; NaN where there are none.
        remarks: sentences on what was left out.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    free: frozenset[int]
    seeds: tuple[int, ...]
    outcomes: Outcomes
    higher: bool | None
    ways: tuple[Way, ...]
    consistency: Array = field(repr=False)
    remarks: tuple[str, ...] = ()

    def matrix(self, value: str = "affinity") -> Array:
        """Return what each task's net alone is worth for each task, ``[S, sources, targets]``; NaN where it was not probed."""
        tasks = len(self.names)
        found = np.full((len(self.seeds), tasks, tasks), np.nan)
        for way in self.ways:
            if way.kind == "transfer" and len(way.sources) == 1:
                found[:, way.sources[0], way.target] = way.values[value]
        return found

    @property
    def order(self) -> int:
        """Most nets that a transfer reads."""
        return max((len(way.sources) for way in self.ways if way.kind == "transfer"), default=0)

    def named(self, way: Way) -> str:
        """Return what a way reads, in words."""
        said: dict[str, str] = {"full": "all labels", "untrained": "an untrained net", "scratch": "from scratch"}
        if way.kind in said:
            return said[way.kind]
        names = " + ".join(self.names[source] for source in way.sources)
        return f"{names} (copies)" if way.kind == "copies" else names


def affinities_of(
    transfers: Sequence[Transfers], outcomes: Outcomes = "errors", measures: Sequence[Measure] = ()
) -> Affinities:
    """Return what all probed ways are worth (Zamir et al. 2018, §3.3).

    Args:
        transfers: of each seed, of one run.
        outcomes: what decides whether a row is won. On a cross-entropy a win rate measures calibration more than answers.
        measures: what each task is measured by; left out: all by one thing, of which more is better.

    Raises:
        UsageError: if nothing was probed, or the ways of a task were probed on different rows.
    """
    if not transfers or not any(each.probed for each in transfers):
        raise UsageError("there are no transfers between tasks: nothing was probed")
    first, said = transfers[0], dict[str, None]()
    keys = dict.fromkeys(_key(each) for of_seed in transfers for each in of_seed.probed)
    values: dict[tuple[int, Kind, tuple[int, ...]], dict[str, Array]] = {key: {} for key in keys}
    labels = {_key(each): each.labels for of_seed in transfers for each in of_seed.probed}
    consistency = np.full((len(first.names), len(transfers)), np.nan)
    for place, of_seed in enumerate(transfers):
        for target, name in enumerate(first.names):
            whole = [each for each in of_seed.to(target) if not np.isnan([*each.losses, *each.errors]).any()]
            said |= {
                f"seed {of_seed.seed}: a loss of {_called(each, first.names)} for {name} is NaN, and it is left out": None
                for each in of_seed.to(target)
                if not any(each is kept for kept in whole)
            }
            found, consistency[target, place] = _of_target(whole, outcomes, f"seed {of_seed.seed}, {name}")
            for key, numbers in found.items():
                for value, number in numbers.items():
                    values[key].setdefault(value, np.full(len(transfers), np.nan))[place] = number
    reached = {target for (target, kind, _), held in values.items() if kind == "transfer" and held}
    said |= {
        f"no transfer to {name} was probed": None for target, name in enumerate(first.names) if target not in reached
    }
    ways = [Way(key[0], key[2], key[1], labels[key], held) for key, held in values.items() if held]
    kinds = set(measures)
    return Affinities(
        names=first.names,
        labels=first.labels,
        free=first.free,
        seeds=tuple(each.seed for each in transfers),
        outcomes=outcomes,
        higher=None if len(kinds) > 1 else all(kind.higher for kind in kinds),
        ways=tuple(sorted(ways, key=lambda way: way.target)),
        consistency=consistency,
        remarks=tuple(said),
    )


def affinities_in(run: Run, outcomes: Outcomes = "errors") -> Affinities:
    """Return the affinities that a log holds.

    Raises:
        UsageError: if it holds no transfers, and as `affinities_of`.
    """
    from cl_engine.results.transfers import transfers_of

    return affinities_of(transfers_of(run), outcomes, run.task_measures)


def _key(transfer: Transfer) -> tuple[int, Kind, tuple[int, ...]]:
    return transfer.target, transfer.kind, tuple(transfer.sources)


def _called(transfer: Transfer, names: Sequence[str]) -> str:
    return " + ".join(names[source] for source in transfer.sources) or transfer.kind


def _of_target(
    ways: Sequence[Transfer], outcomes: Outcomes, where: str
) -> tuple[dict[tuple[int, Kind, tuple[int, ...]], dict[str, float]], float]:
    """Return what each way to a target is worth in one seed, and the consistency ratio of its candidates."""
    if not ways:
        return {}, np.nan
    rows = {len(each.losses) for each in ways} | {len(each.errors) for each in ways}
    if len(rows) > 1 or not min(rows):
        raise UsageError(f"{where}: its ways were probed on {sorted(rows)} rows; all must be on the same ones")
    held = {"errors": np.stack([each.errors for each in ways]), "losses": np.stack([each.losses for each in ways])}
    other = "losses" if outcomes == "errors" else "errors"
    wins = {kind: win_rates(values) for kind, values in held.items()}
    full, scratch = (
        next((k for k, each in enumerate(ways) if each.kind == kind), None) for kind in ("full", "scratch")
    )
    ranked = [place for place, each in enumerate(ways) if each.kind in RANKED]
    among = wins[outcomes][np.ix_(ranked, ranked)]
    vector, _, ratio = principal(among)
    orders = {"affinity": vector, "borda": borda(among), "bradley_terry": bradley_terry(among)}
    found: dict[tuple[int, Kind, tuple[int, ...]], dict[str, float]] = {}
    for place, each in enumerate(ways):
        matched = next((k for k, control in enumerate(ways) if _matches(control, each)), None)
        numbers = {name: order[ranked.index(place)] if place in ranked else np.nan for name, order in orders.items()}
        for name, against in (("quality", full), ("gain", scratch), ("matched_gain", matched)):
            numbers[name] = np.nan if against is None else wins[outcomes][place, against]
        for name, against in (("quality", full), ("gain", scratch)):
            numbers[f"{name}_by_{other}"] = np.nan if against is None else wins[other][place, against]
        found[_key(each)] = {**numbers, "score": each.score}
    return found, ratio


def _matches(control: Transfer, way: Transfer) -> bool:
    """Return whether a control reads as many nets as a way does (one, where that is a whole net), all of the target itself."""
    width = max(1, way.order)
    own = control.kind == "transfer" and control.sources == (control.target,)
    return (own and width == 1) or (control.kind == "copies" and control.order == width > 1)
