"""What is said of the transfers that a run probed: its sentences, and its tables as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cl_engine.analysis.scores.run_scores import interval
from cl_engine.analysis.similarity import Held
from cl_engine.analysis.taxonomy.affinities import Affinities, Way
from cl_engine.analysis.taxonomy.families import families, linked
from cl_engine.analysis.taxonomy.policies import Plans, Policy
from cl_engine.core.text import UNDEFINED, number, with_interval

FAMILIES = 4


@dataclass(frozen=True)
class Findings:
    """All that is said of a run's transfers: what ways are worth, the policies, one of them, and what affinity goes with.

    >>> Findings.__dataclass_fields__.keys()
    dict_keys(['title', 'affinities', 'plans', 'policy', 'candidates', 'held'])

    Attributes:
        title: what the run is called.
        candidates: the matrices that affinity is held against, by name, ``[T, T]`` or ``[S, T, T]``.
        held: the tests of them.
    """

    title: str
    affinities: Affinities
    plans: Plans
    policy: Policy
    candidates: Mapping[str, np.ndarray]
    held: Sequence[Held]

    @property
    def head(self) -> str:
        """A sentence on what was measured, and how."""
        found, by = self.affinities, "right and wrong answers" if self.affinities.outcomes == "errors" else "losses"
        seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) > 1)}"
        return (
            f"{self.title}: {len(found.names)} tasks, {len(found.ways)} ways to answer them, {seeds}. Win rates on validation "
            f"rows, by {by} (of tasks that are no classes: by losses); ±: 95 % confidence over seeds (t interval)."
        )

    @property
    def remarks(self) -> list[str]:
        """Sentences on what was left out, and on what the numbers do not show."""
        said = list(self.affinities.remarks)
        odd = np.nan_to_num(self.affinities.consistency).mean(axis=1) > 0.1
        if odd.any():
            names = ", ".join(name for name, is_odd in zip(self.affinities.names, odd, strict=True) if is_odd)
            said.append(
                f"the comparisons for {names} do not agree with each other (consistency ratio above .1): mind their order"
            )
        unshared = sum(not np.isfinite(way.values["score"]).all() for way in self.affinities.ways)
        if unshared:
            said.append(f"{unshared} ways were not probed in every seed; no policy takes them")
        said.append(
            "scores of policies are on the rows they were chosen on; `run.py run SCENARIO -s policy` measures them on test rows"
        )
        return said


def by_task(found: Findings) -> pd.DataFrame:
    """Return how the policy answers each task, as people read it."""
    affinities, other = found.affinities, "losses" if found.affinities.outcomes == "errors" else "errors"
    rows = []
    for way in found.policy.ways:
        free = way.kind == "full" and way.target not in found.policy.paid
        by_other = (number(way.mean(f"{name}_by_{other}"), 2) for name in ("quality", "gain"))
        rows.append(
            {
                "task": affinities.names[way.target],
                "reads": "its own net" if way.kind == "full" else affinities.named(way),
                "labels": "free" if free else f"{labels_of(affinities, way):,}",
                "quality": _mean(way.values["quality"]),
                "gain": _mean(way.values["gain"]),
                f"by {other}": ", ".join(by_other),
                "score": _mean(way.values["score"]),
            }
        )
    return pd.DataFrame(rows)


def by_source(found: Findings) -> pd.DataFrame:
    """Return for each task the one other net that is worth most to it, in all three orders, as people read it."""
    rows = []
    for target, name in enumerate(found.affinities.names):
        best = _best_source(found.affinities, target)
        if best is not None:
            rows.append(
                {
                    "task": name,
                    "best source": found.affinities.named(best),
                    "affinity": _mean(best.values["affinity"]),
                    "Borda": _mean(best.values["borda"]),
                    "Bradley–Terry": _mean(best.values["bradley_terry"]),
                    "consistency ratio": number(float(found.affinities.consistency[target].mean())),
                }
            )
    return pd.DataFrame(rows)


def by_budget(found: Findings) -> pd.DataFrame:
    """Return the best policy of each budget beside those at random, as people read it."""
    name = "quality" if found.affinities.higher is None else "score"
    rows = []
    for policy, drawn in zip(found.plans.best, found.plans.random, strict=True):
        random = np.array([getattr(each, name).mean() for each in drawn])
        best = random.max() if found.affinities.higher is not False else random.min()
        rows.append(
            {
                "budget": f"{policy.budget}{' *' * (policy.budget == found.policy.budget)}",
                "labels": f"{policy.share:.0%}",
                **({} if name == "quality" else {"score": _mean(policy.score)}),
                "quality": _mean(policy.quality),
                f"{name} at random": number(float(random.mean())),
                "best of them": number(float(best)),
                "trained": ", ".join(found.affinities.names[task] for task in policy.trained),
            }
        )
    return pd.DataFrame(rows)


def by_candidate(found: Findings) -> pd.DataFrame:
    """Return what affinity goes with, as people read it; empty where it was held against nothing."""
    return pd.DataFrame(
        [
            {
                "against": held.name,
                "affinity": held.way,
                "over": held.seeds,
                "Spearman": number(held.found.rho, 2, signed=True),
                "p": f"{held.found.p:.2g}",
                "p (Holm)": f"{held.p_holm:.2g}",
                "orders tried": f"{'all ' if held.found.exact else ''}{held.found.tried + held.found.exact:,}",
            }
            for held in found.held
        ]
    )


def tables(found: Findings) -> list[tuple[str, pd.DataFrame]]:
    """Return all tables that have rows, each with a title."""
    tasks = f"{found.policy.budget} task{'s' * (found.policy.budget != 1)} with labels"
    tables = [
        (f"policy for {tasks}, by {found.plans.objective}: {found.policy.share:.0%} of all labels", by_task(found)),
        ("all budgets", by_budget(found)),
        ("best source of each task, another than itself", by_source(found)),
        ("what affinity goes with (Mantel's test)", by_candidate(found)),
    ]
    return [(title, rows) for title, rows in tables if len(rows)]


def named_families(affinities: Affinities) -> list[list[str]]:
    """Return the names of the tasks in up to four families; none of fewer than three tasks."""
    if len(affinities.names) < 3:
        return []
    tree = linked(affinities.matrix().mean(axis=0))
    return [[affinities.names[task] for task in family] for family in families(tree, FAMILIES)]


def _best_source(affinities: Affinities, target: int) -> Way | None:
    """Return the transfer from one other net that is worth most to a task; None if there is none."""
    ways = [way for way in affinities.ways if way.target == target and way.kind == "transfer" and len(way.sources) == 1]
    known = [way for way in ways if way.sources != (target,) and np.isfinite(way.mean("affinity"))]
    return max(known, key=lambda way: way.mean("affinity"), default=None)


def labels_of(affinities: Affinities, way: Way) -> int:
    """Return how many training rows with labels a way to a task takes."""
    return affinities.labels[way.target] if way.kind == "full" else way.labels


def _mean(values: np.ndarray) -> str:
    half = float(interval(values)) if len(values) > 1 else float("nan")
    return with_interval(float(values.mean()), half) if np.isfinite(values).all() else UNDEFINED
