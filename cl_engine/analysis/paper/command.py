"""What ``compare --latex`` does: the table of a paper, on the terminal or in a file, and its figures beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click
from matplotlib.figure import Figure

from cl_engine.analysis.comparison.choice import best_settings
from cl_engine.analysis.comparison.command import readable
from cl_engine.analysis.comparison.compare import compared
from cl_engine.analysis.comparison.labels import Labels
from cl_engine.analysis.paper import aggregates, figures
from cl_engine.analysis.paper.table import Spread, latex_table
from cl_engine.analysis.plots.style import FORMATS, rendered
from cl_engine.core.files import put
from cl_engine.errors import UsageError
from cl_engine.results.of_measure import by_measure, of_each_measure
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run


def paper_in_terminal(
    places: Sequence[str],
    scores: Sequence[str],
    labels: Labels,
    spread: Spread,
    output: Path | None,
    pictures: Path | None,
    best_by: str | None = None,
) -> None:
    """Print the table of runs in places for LaTeX, or write it to a file; write figures of the first score to a folder.

    A log that cannot be read is named on standard error, and left out.

    Raises:
        UsageError: if no log can be read, or for a score or label that is none.
    """
    runs: list[Run] = of_seeds(readable(places)[0])
    if best_by is not None:
        picked = [best_settings(parts, scores[0], best_by) for parts in of_each_measure(runs).values()]
        runs = [run for kept, _ in picked for run in kept]
        for sentence in (sentence for _, said in picked for sentence in said):
            click.echo(sentence, err=True)
    text = latex_table(runs, scores, labels=labels, spread=spread)
    if output is None:
        click.echo(text, nl=False)
    else:
        put(output, text.encode())
        click.echo(f"table: {output}")
    if pictures is not None:
        for path in save_figures(runs, pictures, scores[0], labels):
            click.echo(f"figure: {path}", err=True)


def save_figures(runs: Sequence[Run], folder: Path, score: str = "acc", labels: Labels | None = None) -> list[Path]:
    """Write the figures of a paper, as far as the runs have what they show, each as SVG, PNG and PDF.

    Over the stream and forward transfer for each stream; scores at the end; with several streams interquartile means, performance
    profiles, probabilities of improvement of the method that ranks first, and ranks.

    Raises:
        UsageError: if the folder cannot be written to, or none can be drawn.
    """
    written: list[Path] = []
    faults: list[str] = []
    for name, draw in _figures(runs, score, dict(labels or {})):
        try:
            fig = draw()
        except UsageError as error:
            faults.append(str(error))
            continue
        for kind in FORMATS:
            put(folder / f"{name}.{kind}", rendered(fig, kind))
            written.append(folder / f"{name}.{kind}")
    if not written:
        raise UsageError(faults[0] if faults else "there is nothing to be drawn")
    return written


def _figures(runs: Sequence[Run], score: str, labels: dict[str, str]) -> Iterator[tuple[str, Callable[[], Figure]]]:
    parts = by_measure(runs)
    streams: dict[str, list[Run]] = {}
    for part in parts:
        streams.setdefault(part.scenario, []).append(part)
    for stream, own in streams.items():
        here = f"-{re.sub(r'[^A-Za-z0-9_]+', '-', stream).strip('-')}" if len(streams) > 1 else ""
        known = _known(own, labels)
        yield f"over-stream-{score}{here}", partial(figures.over_stream, own, score, labels=known, size="column")
        yield f"forward-transfer{here}", partial(figures.forward_transfer, own, labels=known, size="column")
    of_one_measure = len({run.measures[0] for run in parts}) == 1
    yield f"at-the-end-{score}", partial(figures.at_the_end, runs, score, labels=labels, size="text")
    if len(streams) > 1 and of_one_measure:
        known = _known(parts, labels)
        found = compared(parts, score)
        first = found.ranking.methods[0] if found.ranking else found.methods[0]
        yield f"iqm-{score}", partial(aggregates.interquartile_means, parts, score, labels=known, size="column")
        yield f"profiles-{score}", partial(aggregates.performance_profiles, parts, score, labels=known, size="column")
        yield f"improvement-{score}", partial(aggregates.improvement, parts, first, score, labels=known, size="column")
        yield f"ranks-{score}", partial(aggregates.critical_difference, parts, score, labels=known)


def _known(runs: Sequence[Run], labels: dict[str, str]) -> dict[str, str]:
    """Return the labels of what is in a figure of some of the runs."""
    found = compared(runs)
    return {name: label for name, label in labels.items() if name in (*found.methods, *found.streams)}
