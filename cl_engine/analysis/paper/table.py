"""The table of a paper: methods × streams, several scores each, in LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cl_engine.analysis.comparison.labels import Labels, renamed
from cl_engine.analysis.names import one_line
from cl_engine.analysis.scores.groups import RunGroup, groups_of
from cl_engine.analysis.scores.measures import measure, of_scores
from cl_engine.analysis.scores.own_metrics import SeedMetric
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.analysis.scores.statistics import sample_deviation
from cl_engine.errors import UsageError, unknown
from cl_engine.metrics.catalogue import METRICS
from cl_engine.results.of_measure import by_measure
from cl_engine.results.of_seeds import of_seeds
from cl_engine.results.run import Run

Spread = Literal["sd", "sem", "ci", "none"]
SPREADS = {
    "sd": "sample standard deviation",
    "sem": "standard error of the mean",
    "ci": r"half width of the 95\,\% confidence interval ($t$)",
    "none": "",
}
NO_SHARES = ("training_flops", "inference_flops", "memory", "seconds")
ESCAPED = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{"Δ": r"$\Delta$", "β": r"$\beta$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$"},
    **{"–": "--", "…": r"\dots{}", "−": "$-$", "→": r"$\to$"},
}


@dataclass(frozen=True)
class Column:
    """A score on a stream: what it is, whether it stands in percent, and how many digits it has.

    >>> from cl_engine.analysis.scores.measures import MEASURES
    >>> Column("split", MEASURES["forgetting"], percent=True, digits=1).head("forgetting")
    'forgetting (\\\\%) $\\\\downarrow$'
    """

    stream: str
    about: SeedMetric
    percent: bool
    digits: int

    def head(self, title: str) -> str:
        """Return what stands above it."""
        unit = r" (\%)" if self.percent else f" ({escaped(self.about.unit)})" if self.about.unit else ""
        way = r"\uparrow" if self.about.higher else r"\downarrow"
        return f"{title}{unit} ${way}$"


def latex_table(
    runs: Sequence[Run],
    scores: Sequence[str] = ("acc",),
    *,
    labels: Labels | None = None,
    spread: Spread = "sd",
    percent: bool | None = None,
    digits: int | None = None,
    caption: str = "",
    label: str = "tab:results",
) -> str:
    r"""Return a table of methods × streams for LaTeX with ``\usepackage{booktabs}``: mean ± spread, the best of a column bold.

    Methods and streams are those of `cl_engine.analysis.comparison`; tasks of several measures are streams of their own. Means
    that print alike are bold together. A method that has not got as far as others on a stream is marked, and never the best.

    Args:
        runs: what is in it.
        scores: names of ``compare --by``; one column each below every stream.
        labels: other names of methods, streams and scores.
        spread: what stands behind ±: ``sd``, ``sem``, ``ci`` or ``none``; the caption says it.
        percent: whether scores are percentages; left out: those that follow from accuracies are.
        digits: behind the point; left out: one of percentages, otherwise three.
        caption: what stands before the sentence on ±.
        label: by which a text refers to it.

    Raises:
        UsageError: for a score, a spread or a label that is none, or without runs and scores.
    """
    if spread not in SPREADS:
        raise unknown("spread", spread, SPREADS)
    parts = by_measure(of_seeds(runs))
    if not parts or not scores:
        raise UsageError("a table needs at least one run and one score")
    for name in scores:
        measure(name, parts)
    groups, _ = groups_of(parts, scores)
    if not groups:
        raise UsageError("none of these runs has scores for a table")
    streams, methods = ([*dict.fromkeys(getattr(group, part) for group in groups)] for part in ("stream", "method"))
    columns = [
        _column(next(group for group in groups if group.stream == stream), name, parts, percent, digits)
        for stream in streams
        for name in scores
    ]
    called = renamed(labels, [*methods, *streams, *scores])
    cells = [_cells(column, [_of(groups, method, column.stream) for method in methods], spread) for column in columns]
    behind = any(cell.endswith(BEHIND) for column in cells for cell in column)
    lines = [
        " & ".join([escaped(called(method)), *(column[at] for column in cells)]) + r" \\"
        for at, method in enumerate(methods)
    ]
    titles = [escaped(called(c.about.name) if called(c.about.name) != c.about.name else c.about.title) for c in columns]
    heads = [column.head(title) for column, title in zip(columns, titles, strict=True)]
    count = len(scores)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_caption(caption, groups, spread, behind)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
            r"\toprule",
            " & ".join(["", *(rf"\multicolumn{{{count}}}{{c}}{{{escaped(called(s))}}}" for s in streams)]) + r" \\",
            " ".join(rf"\cmidrule(lr){{{2 + k * count}-{1 + (k + 1) * count}}}" for k in range(len(streams))),
            " & ".join(["method", *heads]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


BEHIND = r"\textsuperscript{*}"


def escaped(text: str) -> str:
    """Return a text as LaTeX shows it."""
    return "".join(ESCAPED.get(letter, letter) for letter in one_line(text))


def _of(groups: Sequence[RunGroup], method: str, stream: str) -> RunGroup | None:
    return next((group for group in groups if (group.method, group.stream) == (method, stream)), None)


def _column(group: RunGroup, name: str, runs: Sequence[Run], percent: bool | None, digits: int | None) -> Column:
    kind = group.runs[0].measures[0]
    about = of_scores(measure(name, runs), kind)
    share = name in METRICS and name not in NO_SHARES and (kind.unit == "1" or name == "delta_m") and not about.unit
    as_percent = share if percent is None else percent and not about.unit
    return Column(group.stream, about, as_percent, digits if digits is not None else 1 if as_percent else 3)


def _cells(column: Column, groups: Sequence[RunGroup | None], spread: Spread) -> list[str]:
    """Return the cells of a column, the best of those that got furthest bold."""
    furthest = max(group.experiences for group in groups if group is not None)
    factor, name = 100.0 if column.percent else 1.0, column.about.name
    found: list[tuple[str, str, bool] | None] = []
    for group in groups:
        values = np.array([np.nan]) if group is None else factor * group.values[name]
        if group is None or not np.isfinite(values).all():
            found.append(None)
            continue
        mean, around = f"{values.mean():.{column.digits}f}", _around(values, spread)
        said = rf" {{\footnotesize$\pm$\,{around:.{column.digits}f}}}" if np.isfinite(around) else ""
        found.append((mean, said, group.experiences == furthest))
    level = [float(cell[0]) for cell in found if cell is not None and cell[2]]
    best = (max if column.about.higher else min)(level, default=np.nan)
    cells = []
    for cell in found:
        if cell is None:
            cells.append("--")
            continue
        mean, said, there = cell
        number = mean.replace("-", "$-$")
        cells.append(
            (rf"\textbf{{{number}}}" if there and float(mean) == best else number) + said + ("" if there else BEHIND)
        )
    return cells


def _around(values: np.ndarray, spread: Spread) -> float:
    match spread:
        case "sd":
            return float(sample_deviation(values))
        case "sem":
            return float(sample_deviation(values)) / float(np.sqrt(len(values)))
        case "ci":
            return float(interval(values))
    return float("nan")


def _caption(text: str, groups: Sequence[RunGroup], spread: Spread, behind: bool) -> str:
    counts = sorted({len(group.seeds) for group in groups})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    said = [text] if text else []
    several = counts[-1] > 1
    said.append(f"Mean {'over ' + seeds + ' seeds' if several else 'of one seed'}")
    if several and spread != "none":
        said[-1] += rf" $\pm$ {SPREADS[spread]}"
    said[-1] += "; best in bold."
    if behind:
        said.append(f"{BEHIND}\\,has learned fewer experiences than others.")
    return " ".join(said)
