"""The command `compare`: from places on disk to a table, on the terminal or in a file, and pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure

from cl_engine.analysis.code import code_remarks
from cl_engine.analysis.comparison.compare import Comparison, comparisons
from cl_engine.analysis.comparison.labels import Labels, relabelled
from cl_engine.analysis.comparison.plots import critical_difference, pareto
from cl_engine.analysis.comparison.tables import written
from cl_engine.analysis.discovery import find_runs
from cl_engine.analysis.names import names_of
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
    ("delta_m",): "the run `independent` beside them, where that scores 0 on no task",
    ("intransigence",): "the run `joint` beside them",
}


def compare_in_terminal(
    places: Sequence[str],
    by: str,
    kind: str,
    output: Path | None,
    pictures: Path | None,
    best_by: str | None = None,
    labels: Labels | None = None,
) -> None:
    """Compare the runs in places; print the table, or write it to a file; write pictures to a folder.

    ``labels`` are other names of methods and streams.

    With ``best_by`` those of the best setting of each strategy alone, picked by the scores on validation or test rows.

    A log that cannot be read is named on standard error, and left out.

    Raises:
        UsageError: if no log can be read, none has the score to compare by, or a file cannot be written.
    """
    runs, _ = readable(places)
    for name, run in zip(names_of(runs), runs, strict=True):
        for remark in code_remarks(run):
            click.echo(f"{name}: {remark}", err=True)
    found = comparisons(runs, by, best_by)
    if not any(np.isfinite(group.values[by]).any() for comparison in found for group in comparison.groups):
        need = next((option for names, option in MEASURED_WITH.items() if by in names), "")
        hint = f"; it is measured in runs with {need}" if need else ""
        raise UsageError(f"--by {by}: none of these runs has measured {found[0].by.title}{hint}")
    found = relabelled(found, labels) if labels else found
    text = written(found, kind)
    if output is None:
        click.echo(text, nl=False)
    else:
        put(output, text.encode())
        click.echo(f"comparison: {output}")
    if pictures is not None:
        for path in save_comparison_pictures(found, pictures):
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


def save_comparison_pictures(comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """Write critical-difference diagrams and fronts, as far as there are any, as SVG, PNG and PDF.

    Of several comparisons their names end with what tasks are measured by.

    Raises:
        UsageError: if the folder cannot be written to.
    """
    drawn: dict[str, Figure | None] = {}
    for each in comparisons:
        of = f"-{re.sub(r'[^A-Za-z0-9_]+', '-', each.of.name)}" if each.of and len(comparisons) > 1 else ""
        drawn |= {
            f"critical-difference-{each.by.name}{of}": critical_difference(each),
            f"front-memory{of}": pareto(each, "memory"),
            f"front-time{of}": pareto(each, "seconds"),
        }
    written_to = []
    for name, fig in drawn.items():
        for kind in FORMATS if fig is not None else ():
            assert fig is not None
            path = folder / f"{name}.{kind}"
            put(path, rendered(fig, kind))
            written_to.append(path)
    return written_to
