"""Groups of runs: one method on one stream, with the seeds of all runs that hold it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cl_engine.analysis.names import dotted, one_line
from cl_engine.analysis.scores.measures import measured
from cl_engine.results.log_file import fault
from cl_engine.results.run import Run

Array = np.ndarray
OF_METHOD = ("strategy", "net", "train", "backbone")  # tables of options that make a method; `stream` makes the stream
LONGEST = 60  # characters of the value of an option in a name


@dataclass(frozen=True)
class RunGroup:
    """One method on one stream.

    >>> RunGroup("split", "replay", "replay", (), (0, 1), 5, {"acc": np.array([0.8, 0.9])}).values["acc"].max()
    np.float64(0.9)

    Attributes:
        stream: what the stream is called: its scenario, and options of the stream that set it apart from others.
        method: what the method is called: its strategy, and options that set it apart on the same stream.
        strategy: the strategy alone.
        runs: the runs that hold it; several where each holds some of the seeds.
        seeds: all their seeds, in order.
        experiences: how many experiences had been learned at the last test of all tasks met; 0: none.
        values: for each measure its values, one a seed ``[S]``.
    """

    stream: str
    method: str
    strategy: str
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    experiences: int
    values: dict[str, Array] = field(repr=False)

    @property
    def status(self) -> str:
        """The status of its runs: theirs if it is the same, else that of the first that is not finished."""
        return next((run.status for run in self.runs if run.status != "finished"), "finished")


def groups_of(runs: Sequence[Run], measures: Sequence[str]) -> tuple[list[RunGroup], list[str]]:
    """Return the cases, in the order in which their streams and methods come first, and what has to be said of them.

    Where two runs of a group hold the same seed, the one that got further is taken; if both got as far, the one that has more of
    the measures, and then the later one.
    """
    streams, methods = _stream_names(runs), _method_names(runs)
    together: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run, stream, method in zip(runs, streams, methods, strict=True):
        together[stream, method].append(run)
    groups, said = [], []
    for (stream, method), held in together.items():
        values_of: dict[Run, dict[str, Array]] = {}
        for run in held:
            try:
                values_of[run] = measured(run, measures, runs)
            except Exception as error:  # of whatever kind: the other runs are compared
                said.append(f"{stream}, {method}: left out, as {one_line(fault(run.path, error))}")
        if not values_of:
            continue

        def rank(run: Run, values_of: dict[Run, dict[str, Array]] = values_of) -> tuple[int, int, str]:
            has = sum(bool(np.isfinite(values).any()) for values in values_of[run].values())
            return _learned(run), has, run.attributes.get("updated", "")

        ahead = sorted(values_of, key=rank, reverse=True)
        reached = _learned(ahead[0])
        rows: dict[int, dict[str, float]] = {}
        used: list[Run] = []
        for run in ahead:
            new = [k for k, seed in enumerate(_seeds(run)) if seed not in rows]
            if _learned(run) < reached or not new:
                why = "has seeds that another run has" if not new else f"got to experience {_learned(run)} of {reached}"
                said.append(f"{stream}, {method}: {one_line(str(run.path))} {why}, and is left out")
                continue
            for k in new:
                rows[_seeds(run)[k]] = {name: float(values[k]) for name, values in values_of[run].items()}
            used.append(run)
        seeds = tuple(sorted(rows))
        values = {name: np.array([rows[seed][name] for seed in seeds]) for name in measures}
        groups.append(RunGroup(stream, method, one_line(used[0].strategy), tuple(used), seeds, reached, values))
    return groups, said


def _learned(run: Run) -> int:
    return 0 if run.final is None else int(run.final["evaluation_step"]) + 1


def _seeds(run: Run) -> list[int]:
    return [int(seed) for seed in run.results["seed"].values]


def _stream_names(runs: Sequence[Run]) -> list[str]:
    """Return the scenario of each run, with those options of the stream in which runs of the scenario differ."""
    options = [_flat(run, ("stream",)) for run in runs]
    return _set_apart([one_line(run.scenario) for run in runs], options, [""] * len(runs))


def _method_names(runs: Sequence[Run]) -> list[str]:
    """Return the strategy of each run, with those options in which its runs differ on one and the same stream."""
    options = [_flat(run, OF_METHOD) for run in runs]
    where = [f"{run.scenario} {json.dumps(_options(run).get('stream'), sort_keys=True)}" for run in runs]
    return _set_apart([one_line(run.strategy) for run in runs], options, where)


def _set_apart(names: Sequence[str], options: Sequence[Mapping[str, str]], where: Sequence[str]) -> list[str]:
    """Return the names, each with the options in which those of the same name differ at the same place."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k, (name, place) in enumerate(zip(names, where, strict=True)):
        members[name, place].append(k)
    differing: dict[str, list[str]] = {name: [] for name in names}
    for (name, _), held in members.items():
        if len(held) < 2:
            continue
        for key in dict.fromkeys(key for k in held for key in options[k]):
            if len({options[k].get(key) for k in held}) > 1 and key not in differing[name]:
                differing[name].append(key)
    return [_named(name, options[k], differing[name]) for k, name in enumerate(names)]


def _named(name: str, options: Mapping[str, str], keys: Sequence[str]) -> str:
    short = Counter(key.rpartition(".")[2] for key in keys)
    said = []
    for key in keys:
        last = key.rpartition(".")[2]
        value = options.get(key, "none")
        value = value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
        said.append(f"{last if short[last] == 1 else key}={one_line(value)}")
    return f"{name} ({', '.join(said)})" if said else name


def _options(run: Run) -> dict[str, Any]:
    found = run.experiment.get("options", {})
    return found if isinstance(found, dict) else {}


def _flat(run: Run, tables: Sequence[str]) -> dict[str, str]:
    """Return the options of some tables as ``{"train.lr": "0.1", …}``."""
    return dotted({table: _options(run).get(table, {}) for table in tables})
