"""The command `compare`: from places on disk to a table, on the terminal or in a file, and pictures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from cl_engine.analysis.comparison.compare import Comparison, compared
from cl_engine.analysis.comparison.plots import critical_difference, pareto
from cl_engine.analysis.comparison.tables import written
from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.plots.style import FORMATS, rendered
from cl_engine.core.files import put
from cl_engine.errors import UsageError
from cl_engine.results.run import Run

# what must be asked for, so that a score is there
MEASURED_WITH = {
    ("fwt",): "agenda.evaluate_ahead = 1 or more",
    ("lca", "curve_area"): "agenda.curve_batches or agenda.curve_epochs",
    ("min_acc", "wc_acc", "windowed_forgetting", "windowed_plasticity"): "agenda.curve_tasks",
    ("transfer", "transfer_last", "relative_performance", "sample_efficiency"): "the run `independent` beside them",
    ("intransigence",): "the run `joint` beside them",
}


def compare_in_terminal(places: Sequence[str], by: str, kind: str, output: Path | None, pictures: Path | None) -> None:
    """Compare the runs in places; print the table, or write it to a file; write pictures to a folder.

    A log that cannot be read is named on standard error, and left out.

    Raises:
        UsageError: if no log can be read, none has the score to compare by, or a file cannot be written.
    """
    comparison = compared(readable(places)[0], by)
    if not any(np.isfinite(group.values[by]).any() for group in comparison.groups):
        need = next((option for names, option in MEASURED_WITH.items() if by in names), "")
        hint = f"; it is measured in runs with {need}" if need else ""
        raise UsageError(f"--by {by}: none of these runs has measured {comparison.by.title}{hint}")
    text = written(comparison, kind)
    if output is None:
        click.echo(text, nl=False)
    else:
        put(output, text.encode())
        click.echo(f"comparison: {output}")
    if pictures is not None:
        for path in save_comparison_pictures(comparison, pictures):
            click.echo(f"picture: {path}", err=True)


def readable(places: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Open the runs in places; name on standard error the logs that cannot be read, and return those sentences too.

    Raises:
        UsageError: if none can.
    """
    runs, refused = find_runs(places)
    for sentence in refused:
        click.echo(f"left out: {sentence}", err=True)
    return runs, refused


def save_comparison_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the critical-difference diagram and the fronts, as far as there are any, as SVG, PNG and PDF.

    Raises:
        UsageError: if the folder cannot be written to.
    """
    drawn = {
        f"critical-difference-{comparison.by.name}": critical_difference(comparison),
        "front-memory": pareto(comparison, "memory"),
        "front-time": pareto(comparison, "seconds"),
    }
    written_to = []
    for name, fig in drawn.items():
        for kind in FORMATS if fig is not None else ():
            assert fig is not None
            path = folder / f"{name}.{kind}"
            put(path, rendered(fig, kind))
            written_to.append(path)
    return written_to
