"""The pictures of a report: those of runs together, those of each run, and the same as files for a paper."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.names import names_of
from cl_engine.analysis.plots import (
    across_runs,
    detection,
    environments,
    matrices,
    metrics,
    modules,
    one_run,
    plasticity,
    practice,
    settings,
    side_tasks,
    strategy_events,
)
from cl_engine.analysis.plots.style import FORMATS, SIZES, rendered, sized
from cl_engine.analysis.scores.references import delta_m
from cl_engine.core.files import put
from cl_engine.errors import unknown
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run

LOG = logging.getLogger("cl_engine")


@dataclass(frozen=True)
class Picture:
    """A picture of a report: a short name (that of its file), how to read it, and how it is drawn.

    ``draw`` returns None where the logs do not hold what it shows.

    >>> Picture("accuracy", "Up is better.", lambda: None).draw() is None
    True
    """

    name: str
    aid: str
    draw: Callable[[], Figure | None]


def of_all(runs: Sequence[Run]) -> list[Picture]:
    """Return the pictures that show runs of one scenario together; runs that were not tested yet are left out."""
    tested = [run for run in runs if run.final is not None]
    if not tested:
        return []
    measures = {measure for run in tested for measure in run.measures}
    less = any(not measure.higher for measure in measures)
    turned = " (rising, where less is better)" if less else ""
    way = "Down" if less and len(measures) == 1 else "Up"
    front = f"{way} and to the left is better; dotted: the front of what no other run beats in both."
    drawn = [
        Picture(
            "accuracy",
            f"Falling{turned}: earlier tasks are lost. The band is 95 % confidence over seeds.",
            lambda: across_runs.accuracy_over_stream(tested),
        ),
        Picture("forgetting", "Zero: nothing is lost.", lambda: across_runs.forgetting_over_stream(tested)),
        Picture(
            "retention",
            f"Falling{turned}: what was learned is lost with time. Every test of a task that was learned before counts.",
            lambda: plasticity.retention(tested),
        ),
        Picture(
            "learning",
            "How fast a task is learned, tested on its own test rows.",
            lambda: across_runs.learning_curves(tested),
        ),
        Picture(
            "loss",
            "The mean over the rows of an experience in its last epoch. Rising: later tasks are harder to fit.",
            lambda: plasticity.training_loss(tested),
        ),
        Picture(
            "online",
            f"Falling{turned}: the net learns less and less of new tasks.",
            lambda: across_runs.online_over_stream(tested),
        ),
        Picture(
            "units",
            "Before each experience, on its rows. Units that are dead, or features of low rank, learn little more.",
            lambda: plasticity.diagnostics_over_stream(tested),
        ),
        Picture(
            "transfer",
            "Above zero: what was learned before helps. Below: it gets in the way.",
            lambda: across_runs.transfer(tested),
        ),
    ]
    for name, about in metrics.asked(tested).items():
        up = f"{'Up' if about.higher else 'Down'} is better. Mean over the tasks met; the band is 95 % confidence over seeds."
        drawn.append(Picture(f"metric-{safe(name)}", up, partial(metrics.over_stream, tested, name)))
    if len(tested) > 1:
        drawn += [
            Picture(
                "memory",
                "What one seed would have to save, after each experience.",
                lambda: across_runs.memory_of_runs(tested),
            ),
            Picture(
                "matrices",
                "Rows are tests, columns tasks, bright is good: a column that pales is a task that is lost.",
                lambda: matrices.matrices(tested),
            ),
        ]
    worth = [delta_m(run, tested) if len(measures) > 1 else run.final["acc"].values for run in tested]  # type: ignore[index]
    placed = [run for run, of_run in zip(tested, worth, strict=True) if np.isfinite(of_run).all()]
    if len(tested) > 1 and placed:  # of a seed that was stopped there is no accuracy at the end
        drawn += [
            Picture("accuracy-memory", front, lambda: across_runs.accuracy_against_memory(placed)),
            Picture("accuracy-time", front, lambda: across_runs.accuracy_against_time(placed)),
        ]
    for name in settings.searched(tested):
        drawn += [
            Picture(f"search-{safe(name)}", SEARCH, partial(settings.parallel_coordinates, tested, name)),
            Picture(f"options-{safe(name)}", OPTIONS, partial(settings.two_options, tested, name)),
        ]
    return [*drawn, Picture("seconds", "Where the time went.", lambda: across_runs.seconds_of_runs(tested))]


def of_run(run: Run, beside: Sequence[Run] = ()) -> list[Picture]:
    """Return the pictures that show one run; references are looked for among the runs beside it."""
    if run.final is None:
        return [Picture("timeline", TIMELINE, lambda: one_run.timeline(run))]
    told = [
        ("codes", "Below the line of whole nets, codes pay.", strategy_events.code_bytes),
        ("drift", "Falling: recalled nets move away from what was learned.", strategy_events.code_drift),
        ("moved", "Zero: learning a task leaves past nets where they are.", strategy_events.codes_moved),
        ("field", "Distance near zero: the field is where SGD is.", strategy_events.field_beside_sgd),
        ("layers", "Layer by layer, mean over seeds.", strategy_events.layers),
        ("modulation", "Rows alike: tasks use a layer alike.", strategy_events.modulation),
        ("overlap", "1: two tasks use the same weights.", strategy_events.overlap),
        ("side-tasks", "At zero, a side task is switched off.", side_tasks.side_weights),
        ("modules", "Down a column, tasks share a module.", modules.module_graph),
        ("growth", "The further below the line, the more is used again.", modules.growth),
        ("fits", "Flat: a task costs no more for those before it.", modules.fits),
        ("orders", "The same number: the same weights.", modules.orders),
        ("sharing", "Down a column, the same number: shared weights.", modules.sharing),
        ("sources", "Along a row: whom a task could learn from.", modules.sources),
        (
            "candidates",
            "The best is kept; one below others was fitted to bad labels.",
            environments.candidates_by_segment,
        ),
        ("practice", "Above the grey line: practised more than an equal share.", practice.task_shares),
        (
            "precision-recall",
            "Of detections: up and to the right is better. A line ends where no more boxes are found at any confidence.",
            detection.precision_recall,
        ),
        ("affinities", "Down a column: whose net serves the task. `run.py taxonomy` says more.", _affinities),
    ]
    return [
        Picture(
            "matrix",
            "A row is a test after an experience; down a column, a task is kept or lost.",
            lambda: matrices.matrix(run),
        ),
        Picture(
            "helped",
            "What learning the row's experience did to the column's task: violet helped, orange hurt.",
            lambda: matrices.transfer_matrix(run),
        ),
        Picture("tasks", "Each line is a task, from when it was learned.", lambda: one_run.tasks_over_stream(run)),
        Picture(
            "curves", "Steep: learned in few epochs. Low at the end: not learned.", lambda: one_run.task_curves(run)
        ),
        Picture(
            "memory-parts",
            "What one seed would have to save, part by part.",
            lambda: one_run.memory_over_stream(run, beside),
        ),
        Picture("timeline", TIMELINE, lambda: one_run.timeline(run)),
        *(Picture(name, aid, partial(draw, run)) for name, aid, draw in told),
        *(
            Picture(f"{about.picture}-{safe(name)}", metrics.AIDS[about.picture], partial(metrics.of_sums, run, name))
            for name, about in run.metrics.items()
            if about.picture in metrics.AIDS
        ),
    ]


SEARCH = "A line is a setting. Where the best lines meet, the option matters; where they spread, it does not."
OPTIONS = "Bright is good. At an edge, the best may lie beyond it."
TIMELINE = "Above, seconds of each experience; below, what the strategy told of, and when."


def save_pictures(
    runs: Sequence[Run], folder: Path, kind: str = "svg", size: str = "screen", dark: bool = False
) -> list[Path]:
    """Write the pictures of the report to files in ``folder``, as ``svg``, ``png`` or ``pdf``; return their paths.

    ``size`` is how wide they are: ``column``, ``text`` or ``page`` of a paper, or ``screen`` (`style.sized`).

    Raises:
        UsageError: if there is no such format or size, or the folder cannot be written to.
    """
    if kind not in FORMATS:
        raise unknown("picture format", kind, FORMATS)
    if size not in SIZES:
        raise unknown("size of pictures", size, SIZES)
    written = []
    with sized(size):
        for name, picture in _named(of_seeds(runs)):
            path = folder / f"{name}.{kind}"
            try:
                drawn = picture.draw()
                content = None if drawn is None else rendered(drawn, kind, dark)
            except Exception as error:  # of whatever kind: the others are drawn
                LOG.warning("%s could not be drawn: %s: %s", path, type(error).__name__, error)
                continue
            if content is not None:
                put(path, content)
                written.append(path)
    return written


def _named(runs: Sequence[Run]) -> Iterator[tuple[str, Picture]]:
    """Yield every picture with the name of its file: of each scenario, then of each run."""
    scenarios = list(dict.fromkeys(run.scenario for run in runs))
    for number, scenario in enumerate(scenarios):
        group = [run for run in runs if run.scenario == scenario]
        before = f"{number:02d}-{safe(scenario)}-" if len(scenarios) > 1 else ""
        for picture in of_all(group):
            yield f"{before}{picture.name}", picture
        for k, (run, name) in enumerate(zip(group, names_of(group), strict=True)):
            for picture in of_run(run, group):
                yield f"{before}{k:02d}-{safe(name)}-{picture.name}", picture


def _affinities(run: Run) -> Figure | None:
    from cl_engine.analysis.plots import taxonomy  # few runs have probed transfers, and all would wait for its solvers

    return taxonomy.affinities(run)


def safe(name: str) -> str:
    """Return a name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:60].strip("-") or "run"
