"""Discovery of runs: every log at or below the given places, and why some cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cl_engine.analysis.names import dotted
from cl_engine.errors import UsageError
from cl_engine.results.log_file import fault, searched
from cl_engine.results.run import Run, open_run

REFERENCES = "reference"  # a folder of runs that come with the program


def find_runs(places: Sequence[str | Path]) -> tuple[list[Run], list[str]]:
    """Open every log that is meant by places: a log, a run's folder, a folder with runs below it, or a pattern.

    Returns the runs, each once, and a sentence for every log that cannot be read and every place that has none.

    Raises:
        UsageError: if nothing can be read; with a single log, in that log's own sentence.
    """
    files, refused = searched(*places)
    runs = []
    for file in files:
        try:
            runs.append(checked(open_run(file)))
        except Exception as error:  # a file of somebody else's may be odd in any way
            refused.append(fault(file, error))
    if not runs:
        raise UsageError(refused[0] if len(refused) == 1 else f"none of {len(refused)} logs can be read; {refused[0]}")
    return runs, refused


def without_references(places: Sequence[str | Path], runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Leave out runs in a folder ``reference`` below a folder that was asked for, unless that folder itself was.

    Such are the runs that come with the program, to be held against. Returns the others, and a sentence for each such folder;
    all runs and no sentence where there are no others.
    """
    left_out: dict[Path, int] = {}
    kept = []
    asked = [Path(place).resolve() for place in places]
    for run in runs:
        folder = next((found for place in asked if (found := _reference(place, run.path.resolve())) is not None), None)
        if folder is None or any(folder == place or folder in place.parents for place in asked):
            kept.append(run)
        else:
            left_out[folder] = left_out.get(folder, 0) + 1
    if not kept:
        return list(runs), []
    said = [
        f"left out: {count} run{'s' if count > 1 else ''} in {folder}, which is to be named where it is to be there"
        for folder, count in left_out.items()
    ]
    return kept, said


def _reference(place: Path, log: Path) -> Path | None:
    """Return the folder of reference runs between a place and a log below it; None if there is none."""
    if not log.is_relative_to(place):
        return None
    between = log.relative_to(place).parts[:-2]
    return place.joinpath(*between[: between.index(REFERENCES) + 1]) if REFERENCES in between else None


def checked(run: Run) -> Run:
    """Return the run if all of its parts that a report needs can be read; of R, the last row: the rest stays on disk.

    Raises:
        UsageError: if they cannot: the file was damaged, or something else wrote it.
    """
    try:
        _ = run.results["score"][-1:].values
        for table in ("experiences", "epochs", "curves", "events"):
            run.table(table)
        _ = (dotted(run.experiment["options"]), run.experiment["seeds"], run.strategy, run.scenario, run.status)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{run.path} is damaged or not whole: {error}") from None
    return run
