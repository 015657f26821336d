"""Remarks of a report: unfinished runs, missing measurements, and why a score is undefined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cl_engine.analysis.code import code_remarks
from cl_engine.analysis.names import one_line
from cl_engine.analysis.plots.strategy_events import remarks_inside
from cl_engine.analysis.scores.references import last_scores, reference
from cl_engine.analysis.scores.run_scores import Summary
from cl_engine.results.log_file import MEMORY_RULE, fault
from cl_engine.results.run import Run

STATES = {"running": "was still running when it was last saved", "stopped": "was stopped", "failed": "failed"}


def remarks(names: Sequence[str], summaries: Sequence[Summary]) -> list[str]:
    """Return sentences about runs, each once with the names of all runs it holds for."""
    runs = [summary.run for summary in summaries]
    return _once(
        (name, sentence) for name, summary in zip(names, summaries, strict=True) for sentence in _said_of(summary, runs)
    )


def _said_of(summary: Summary, beside: Sequence[Run]) -> list[str]:
    try:
        own = (*_of_code(summary), *_of_run(summary), *_of_memory(summary, beside), *remarks_inside(summary.run))
        return [*own, *_of_references(summary, beside)]
    except Exception as error:  # of whatever kind: the other runs are remarked on
        return [f": not looked at for remarks, as {one_line(fault(summary.run.path, error))}"]


def _of_code(summary: Summary) -> Iterator[str]:
    return (f": {remark}" for remark in code_remarks(summary.run))


def unfinished(names: Sequence[str], summaries: Sequence[Summary]) -> list[str]:
    """Return sentences about runs that are not finished: how far they are, and when they were saved last."""
    return _once(
        (
            name,
            f" {STATES.get(s.run.status, f'is {one_line(s.run.status)}')}: {counted(s.experiences, 'experience')} in its log "
            f"({counted(s.run.results.sizes['task'], 'task')} are known), "
            f"last saved {one_line(s.run.attributes.get('updated', 'at an unknown time'))}",
        )
        for name, s in zip(names, summaries, strict=True)
        if s.run.status != "finished"
    )


def counted(count: int, thing: str) -> str:
    """Return a number of things: ``1 task``, ``2 tasks``."""
    return f"{count} {thing}{'s' if count != 1 else ''}"


def _once(said: Iterable[tuple[str, str]]) -> list[str]:
    """Return each sentence once, after the names of all runs it holds for."""
    names: dict[str, list[str]] = {}
    for name, sentence in said:
        names.setdefault(sentence, []).append(name)
    return [f"{', '.join(held)}{sentence}" for sentence, held in names.items()]


def _of_run(summary: Summary) -> Iterator[str]:
    run = summary.run
    if run.final is None:
        yield f": {'no test was of all tasks learned' if run.tested else 'nothing has been tested yet'}, so there are no scores"
    elif len(run.measures) > 1:
        measures = ", ".join(measure.title for measure in run.measures)
        yield f": its tasks are measured by {measures}, and scores are told of each of them alone"
    elif summary.experiences == 1:
        yield ": one experience only, so transfer and forgetting are undefined"
    else:
        if (run.results["evaluation_step"].values >= 0).all():
            yield ": tasks ahead were not tested (agenda.evaluate_ahead = 0), so there is no FWT"
        elif np.isnan(summary.fwt.mean):
            yield ": a test of a task before it was learned is missing, so there is no FWT"
        named = {"BWT": summary.bwt, "forgetting": summary.forgetting, "learning accuracy": summary.learning_accuracy}
        lacking = [name for name, score in named.items() if np.isnan(score.mean)]
        if lacking:
            yield f": a test that {' and '.join(lacking)} would need is missing, so there is none"
    untold = np.isnan(summary.curve_area.mean) and len(run.measures) == 1
    if summary.experiences and (untold or run.table("curves").empty):
        yield (
            ": learning was not tested midway (agenda.curve_epochs and agenda.curve_batches are 0), "
            "so there is no curve area"
            if run.table("curves").empty
            else ": learning was tested at one point only, so there is no curve area"
        )
    if summary.seeds == 1:
        yield ": one seed only, so there are no confidence intervals"


def _of_memory(summary: Summary, beside: Sequence[Run]) -> Iterator[str]:
    if summary.memory_apart is None and any(MEMORY_RULE in run.attributes for run in beside):
        yield (
            ": its memory is all of its state, as logs counted before format 1.5, and not to be compared with that of the "
            "others, which leaves out what follows from the seeds"
        )


def _of_delta_m(summary: Summary, beside: Sequence[Run]) -> Iterator[str]:
    alone = reference(summary.run, beside, "independent")
    if alone is None:
        yield ": no run of `independent` with the same stream, net, backbone and seeds is beside it, so there is no Δm"
    elif np.isnan(summary.delta_m.mean):
        nothing = np.flatnonzero((last_scores(alone) == 0).any(axis=1)).tolist()
        if nothing:
            yield (
                f": the run of `independent` beside it scored 0 on task {', '.join(map(str, nothing))}, to which nothing is "
                "relative, so there is no Δm across tasks"
            )
        else:
            yield ": a task that it learned was not tested here or in the run of `independent`, so there is no Δm"


def _of_references(summary: Summary, beside: Sequence[Run]) -> Iterator[str]:
    """Say why a score against a reference run is undefined, where this run's own part of it is not."""
    if len(summary.run.measures) > 1:
        yield from _of_delta_m(summary, beside)
    if np.isnan(summary.learning_accuracy.mean):
        return
    for strategy, score, name in (
        ("independent", summary.transfer, "transfer"),
        ("joint", summary.intransigence, "intransigence"),
    ):
        if not np.isnan(score.mean):
            continue
        if reference(summary.run, beside, strategy) is None:
            yield f": no run of `{strategy}` with the same stream, net, backbone and seeds is beside it, so there is no {name}"
        else:
            yield f": the run of `{strategy}` beside it has not been tested on all of its tasks, so there is no {name}"
