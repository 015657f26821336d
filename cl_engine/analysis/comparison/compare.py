"""Runs compared: intervals over seeds, paired tests with correction, ranks over streams, fronts against memory and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from cl_engine.analysis.comparison.affinity import said_of_affinity
from cl_engine.analysis.comparison.choice import best_settings
from cl_engine.analysis.comparison.seeds import ALPHA, needed, said_of_seeds
from cl_engine.analysis.scores.groups import RunGroup, groups_of
from cl_engine.analysis.scores.measures import OF_WHOLE_RUNS, measure, of_scores
from cl_engine.analysis.scores.own_metrics import SeedMetric
from cl_engine.analysis.scores.statistics import (
    Ranking,
    bootstrap,
    front,
    holm,
    ranked,
    signed_rank,
    smallest_p,
    stratified_bootstrap,
)
from cl_engine.core.measure import Measure
from cl_engine.errors import UsageError
from cl_engine.results.of_measure import of_each_measure
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run

COSTS = ("memory", "seconds")


@dataclass(frozen=True)
class Comparison:
    """The comparison of runs side by side.

    >>> from cl_engine.experiment import Experiment
    >>> from cl_engine.testing import small
    >>> from pathlib import Path
    >>> from cl_engine.results import open_run
    >>> runs = [open_run(Experiment.of(small.scenario(), name).run(Path(name), device="cpu")) for name in ("finetune", "replay")]
    >>> compared(runs).streams
    ['small']

    Attributes:
        by: the measure they are compared by.
        of: what the tasks are measured by; None: by several things, of which a comparison by Δm or a cost tells.
        gain: what fronts are drawn by: ACC, or Δm across measures.
        cases: each method on each stream, with its values by seed.
        table: a row a case: ``stream``, ``method``, ``strategy``, ``n`` (seeds), ``mean``, ``low``, ``high`` (95 %
            percentile bootstrap over seeds), ``best`` (of its stream), ``memory`` (bytes a seed), ``seconds`` (a seed),
            ``memory_front``, ``time_front`` (not dominated in ``gain`` and that cost), ``status``, ``experiences``.
        pairs: a row for each two methods on a stream: ``stream``, ``one``, ``other``, ``n`` (seeds both have),
            ``difference`` (one less other) with ``low`` and ``high``, ``p`` (exact signed-rank test over seeds),
            ``p_holm`` (corrected over the pairs of the stream), ``smallest`` (the smallest p possible), ``significant``.
        overall: a row a method: ``method``, ``streams``, ``mean`` over streams with ``low`` and ``high`` (bootstrap over
            the seeds of each stream), ``rank`` (average rank). Empty with one stream.
        ranking: the test over streams; None with fewer than two streams or methods.
        remarks: sentences on what is missing, too few, or left out.
    """

    by: SeedMetric
    of: Measure | None
    gain: SeedMetric
    groups: tuple[RunGroup, ...]
    table: pd.DataFrame
    pairs: pd.DataFrame
    overall: pd.DataFrame
    ranking: Ranking | None
    remarks: tuple[str, ...]

    @property
    def streams(self) -> list[str]:
        """The streams, in order."""
        return list(dict.fromkeys(case.stream for case in self.groups))

    @property
    def methods(self) -> list[str]:
        """The methods, in order."""
        return list(dict.fromkeys(case.method for case in self.groups))


def comparisons(runs: Sequence[Run], by: str = "acc", best_by: str | None = None) -> list[Comparison]:
    """Compare runs by a measure, those of each thing that tasks are measured by on their own: only like is held against like.

    By Δm and by costs, which are of whole runs, there is one comparison. The remarks of the first tell what the forward
    transfer of the runs has to do with the affinities that one of them measured, if one did.

    With ``best_by``, ``validation`` or ``test``, the best setting of each strategy is picked by the scores on those rows, and
    compared with those of the others alone (`cl_engine.analysis.comparison.choice.best_settings`); remarks tell the picks.

    Raises:
        UsageError: as `compared`, and if there are no scores to pick by.
    """
    runs = of_seeds(runs)
    whole = by in OF_WHOLE_RUNS or not runs
    found = [_of_best(parts, by, best_by) for parts in ([runs] if whole else of_each_measure(runs).values())]
    found[0] = replace(found[0], remarks=(*found[0].remarks, *said_of_affinity(runs)))
    return found


def _of_best(runs: Sequence[Run], by: str, best_by: str | None) -> Comparison:
    if best_by is None:
        return compared(runs, by)
    picked, said = best_settings(runs, by, best_by)
    found = compared(picked, by)
    return replace(found, remarks=(*said, *found.remarks))


def compared(runs: Sequence[Run], by: str = "acc") -> Comparison:
    """Compare runs by a measure (`cl_engine.analysis.scores.measures`).

    Seeds are paired: the same seed meets the same stream in the same order. A run that has not got as far as others on
    its stream is in the table, and takes no part in tests, ranks and fronts.

    Raises:
        UsageError: if there are no runs, no such measure, or the tasks' scores are of several kinds (`comparisons`).
    """
    if not runs:
        raise UsageError("a comparison needs at least one run")
    asked, kinds = measure(by, runs), list(dict.fromkeys(kind for run in runs for kind in run.measures))
    if len(kinds) > 1 and by not in OF_WHOLE_RUNS:
        named = ", ".join(kind.name for kind in kinds)
        raise UsageError(f"{asked.title} over tasks measured by {named} means nothing: compare each of them on its own")
    of = kinds[0] if len(kinds) == 1 else None
    asked, gain = (of_scores(asked, of), of_scores(measure("acc"), of)) if of else (asked, measure("delta_m"))
    groups, said = groups_of(runs, list(dict.fromkeys((gain.name, by, *COSTS))))
    if not groups:
        raise UsageError(f"no run can be compared; {said[0]}")
    groups = _sorted(groups, asked)
    furthest = {case.stream: 0 for case in groups}
    for case in groups:
        furthest[case.stream] = max(furthest[case.stream], case.experiences)
    level = [case for case in groups if case.experiences == furthest[case.stream]]
    said += [
        f"{case.stream}, {case.method}: tested after {case.experiences} experiences, others after "
        f"{furthest[case.stream]}: it takes no part in tests, ranks and fronts"
        for case in groups
        if case.experiences < furthest[case.stream]
    ]
    said += [f"{case.stream}, {case.method}: a run is {case.status}" for case in groups if case.status != "finished"]
    undefined = [f"{case.stream}, {case.method}" for case in groups if not np.isfinite(case.values[by]).all()]
    if undefined:
        said.append(f"{asked.title} is undefined for: {'; '.join(undefined)}")
    table = _table(groups, level, asked, gain)
    pairs = _pairs(level, asked)
    ranking, of_ranks = _ranking(level, asked)
    overall = _overall(level, asked, ranking)
    return Comparison(
        by=asked,
        of=of,
        gain=gain,
        groups=tuple(groups),
        table=table,
        pairs=pairs,
        overall=overall,
        ranking=ranking,
        remarks=(*said, *said_of_seeds(groups, pairs), *of_ranks),
    )


def _sorted(groups: Sequence[RunGroup], by: SeedMetric) -> list[RunGroup]:
    """Return the cases stream by stream, in the order in which streams come, and the best of each first."""
    streams = list(dict.fromkeys(case.stream for case in groups))
    means = {
        id(case): float(np.nan_to_num(case.values[by.name].mean(), nan=-math.inf if by.higher else math.inf))
        for case in groups
    }
    return sorted(
        groups, key=lambda case: (streams.index(case.stream), -means[id(case)] if by.higher else means[id(case)])
    )


def _table(groups: Sequence[RunGroup], level: Sequence[RunGroup], by: SeedMetric, gain: SeedMetric) -> pd.DataFrame:
    rows = []
    for case in groups:
        low, high = bootstrap(case.values[by.name])
        rows.append(
            {
                "stream": case.stream,
                "method": case.method,
                "strategy": case.strategy,
                "n": len(case.seeds),
                "mean": float(case.values[by.name].mean()),
                "low": low,
                "high": high,
                "best": False,
                "memory": float(case.values["memory"].mean()),
                "seconds": float(case.values["seconds"].mean()),
                "memory_front": False,
                "time_front": False,
                "status": case.status,
                "experiences": case.experiences,
            }
        )
    table = pd.DataFrame(rows)
    position = {id(case): k for k, case in enumerate(groups)}
    for stream in table["stream"].unique():
        rows_of = [position[id(case)] for case in level if case.stream == stream]
        means = table.loc[rows_of, "mean"].round(12)
        best = means.max() if by.higher else means.min()
        table.loc[rows_of, "best"] = (means == best).to_numpy()
        gained = np.array([groups[k].values[gain.name].mean() for k in rows_of]) * (1 if gain.higher else -1)
        for cost, column in zip(COSTS, ("memory_front", "time_front"), strict=True):
            table.loc[rows_of, column] = front(gained, table.loc[rows_of, cost].to_numpy())
    return table


def _pairs(level: Sequence[RunGroup], by: SeedMetric) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for stream in dict.fromkeys(case.stream for case in level):
        here = [case for case in level if case.stream == stream]
        of_stream: list[dict[str, Any]] = []
        for one, other in combinations(here, 2):
            shared = [seed for seed in one.seeds if seed in other.seeds]
            first, second = (case.values[by.name][[case.seeds.index(seed) for seed in shared]] for case in (one, other))
            gain = first - second
            low, high = bootstrap(gain)
            of_stream.append(
                {
                    "stream": stream,
                    "one": one.method,
                    "other": other.method,
                    "n": len(shared),
                    "difference": float(gain.mean()) if len(gain) else math.nan,
                    "low": low,
                    "high": high,
                    "p": signed_rank(gain),
                    "smallest": smallest_p(len(shared)),
                }
            )
        for row, corrected in zip(of_stream, holm([row["p"] for row in of_stream]), strict=True):
            rows.append({**row, "p_holm": float(corrected), "significant": bool(corrected < ALPHA)})
    columns = ["stream", "one", "other", "n", "difference", "low", "high", "p", "p_holm", "smallest", "significant"]
    return pd.DataFrame(rows, columns=columns)


def _ranking(level: Sequence[RunGroup], by: SeedMetric) -> tuple[Ranking | None, list[str]]:
    streams = list(dict.fromkeys(case.stream for case in level))
    wide = _wide(level, by)
    if len(streams) < 2 or wide.shape[1] < 2:
        return None, []
    lacking = wide.isna().mean()
    kept = wide.loc[:, lacking <= 0.5]
    said = [
        f"{name} was measured on fewer than half of the streams and is not ranked"
        for name in lacking[lacking > 0.5].index
    ]
    whole = kept.dropna()
    if len(whole) < len(kept):
        left = ", ".join(str(name) for name in kept.index.difference(whole.index, sort=False))
        said.append(f"ranks leave out streams on which a method is missing or undefined: {left}")
    if len(whole) < 2 or kept.shape[1] < 2:
        return None, [*said, "fewer than two streams have all methods, so there are no ranks"]
    ranking = ranked([str(name) for name in whole.columns], whole.to_numpy(), by.higher, ALPHA)
    least, asked = smallest_p(len(whole)), len(ranking.pairs)
    if least * asked >= ALPHA:
        said.append(
            f"over {len(whole)} streams the signed-rank test cannot go below p = {least:.4g}, times {asked} pairs by Holm: "
            f"no difference between methods can be significant; {needed(asked)} streams could show one"
        )
    return ranking, said


def _overall(level: Sequence[RunGroup], by: SeedMetric, ranking: Ranking | None) -> pd.DataFrame:
    columns = ["method", "streams", "mean", "low", "high", "rank"]
    streams = list(dict.fromkeys(case.stream for case in level))
    if len(streams) < 2:
        return pd.DataFrame(columns=columns)
    ranks = dict(zip(ranking.methods, ranking.ranks, strict=True)) if ranking else {}
    rows = []
    for method in dict.fromkeys(case.method for case in level):
        held = [case.values[by.name] for case in level if case.method == method]
        mean = float(np.mean([values.mean() for values in held]))
        low, high = stratified_bootstrap(held)
        rows.append((method, len(held), mean, low, high, ranks.get(method, math.nan)))
    return pd.DataFrame(rows, columns=columns)


def _wide(level: Sequence[RunGroup], by: SeedMetric) -> pd.DataFrame:
    """Return the mean over seeds, streams by methods, in the order in which they come."""
    rows = pd.DataFrame([(case.stream, case.method, case.values[by.name].mean()) for case in level])
    wide = rows.pivot(index=0, columns=1, values=2)
    return wide.loc[list(dict.fromkeys(rows[0])), list(dict.fromkeys(rows[1]))]
