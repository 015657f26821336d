"""The best setting of each strategy, picked by scores on validation rows, so that those on test rows can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cl_engine.analysis.scores.groups import RunGroup, groups_of
from cl_engine.analysis.scores.measures import measure, of_scores
from cl_engine.core.text import number
from cl_engine.errors import UsageError
from cl_engine.results.run import Run
from cl_engine.results.validation import VALIDATED


def best_settings(runs: Sequence[Run], by: str = "acc", rows: str = "validation") -> tuple[list[Run], list[str]]:
    """Return the runs of the best setting of each strategy on each stream, and a sentence for each that was picked.

    Settings are options of a strategy, its net and training; the mean over seeds decides, at the last test of all tasks met, of
    those that have got furthest. A strategy of one setting is kept as it is. Picked is by ``by``, where that is measured on
    validation rows, else by ACC.

    Args:
        runs: runs whose tasks are measured by one thing.
        by: what they will be compared by.
        rows: ``validation`` or ``test``.

    Raises:
        UsageError: if tasks are measured by several things, or a setting that there is a choice about has no such scores.
    """
    kinds = {kind for run in runs for kind in run.measures}
    if len(kinds) > 1:
        raise UsageError(
            "--best-by: tasks are measured by several things, so that no score says which setting is the best; compare by acc"
        )
    score = by if by in VALIDATED else "acc"
    asked = of_scores(measure(score), *kinds) if kinds else measure(score)
    groups, said = groups_of(runs, [score])
    choices: dict[tuple[str, str], list[RunGroup]] = {}
    for group in groups:
        choices.setdefault((group.stream, group.strategy), []).append(group)
    kept: list[Run] = []
    for (stream, strategy), settings in choices.items():
        furthest = max(group.experiences for group in settings)
        level = [group for group in settings if group.experiences == furthest]
        if len(settings) == 1:
            kept += settings[0].runs
            continue
        means = [_mean(group, score, rows) for group in level]
        best = max(range(len(level)), key=lambda k: _worth(means[k], asked.higher))
        kept += level[best].runs
        behind = f", of those that got to experience {furthest}" if len(level) < len(settings) else ""
        said.append(
            f"{stream}, {strategy}: {level[best].method} is the best of {len(level)} settings by {asked.title} on {rows} rows "
            f"({number(means[best])}){behind}"
        )
    if rows == "test" and any(len(settings) > 1 for settings in choices.values()):
        said.append("settings were chosen on test rows: scores of the best on them are too high by what chance gives")
    return kept, said


def _mean(group: RunGroup, score: str, rows: str) -> float:
    """Return the mean over the seeds of a setting."""
    if rows == "test":
        return float(group.values[score].mean())
    found: dict[int, float] = {}
    for run in group.runs:
        values = run.validated(score)
        if values is None:
            raise UsageError(
                f"--best-by validation: {run.path} has no {score} on validation rows (stream.validation sets some aside, and "
                f"agenda.validation scores them), and {group.strategy} has several settings on {group.stream}: "
                "--best-by test chooses on test rows, and says so"
            )
        seeds = run.results["seed"].values.tolist()
        found = dict(zip(seeds, values.tolist(), strict=True)) | found
    return float(np.mean([found[seed] for seed in group.seeds]))


def _worth(mean: float, higher: bool) -> float:
    """Return a number that is larger for what is better; what was not measured is worst."""
    return -math.inf if math.isnan(mean) else mean if higher else -mean
