"""Discovery of runs: every log at or below the given places, and why some cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cl_engine.analysis.names import dotted
from cl_engine.errors import UsageError
from cl_engine.results.log_file import fault, searched
from cl_engine.results.run import Run, open_run


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
