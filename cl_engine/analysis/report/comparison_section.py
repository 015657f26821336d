"""The section of a report that compares runs: averages and ranks over streams, and pairs that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from cl_engine.analysis.comparison.compare import Comparison, comparisons
from cl_engine.analysis.comparison.plots import critical_difference
from cl_engine.analysis.comparison.rows import remarks_of, said_of_ranking, spanned
from cl_engine.analysis.report.tables import Cell, Table
from cl_engine.core.text import number
from cl_engine.results.run import Run

MOST = 40  # pairs that are listed; the command `compare` lists all


@dataclass(frozen=True)
class Section:
    """The tables, remarks and pictures that compare runs on a page.

    >>> Section(tables=(), remarks=("There is one run.",), pictures=()).remarks
    ('There is one run.',)

    Attributes:
        tables: shown first.
        remarks: sentences below them.
        pictures: name, how to read it, and the picture.
    """

    tables: Sequence[Table]
    remarks: Sequence[str]
    pictures: Sequence[tuple[str, str, Figure]]


def section(runs: Sequence[Run]) -> Section | None:
    """Return the section of a page that compares runs by ACC, measure by measure; None where there are not two methods."""
    found = [each for each in comparisons(runs) if len(each.methods) > 1]
    if not found:
        return None
    aid = "Left is better. Methods joined by a bar are not told apart by the test."
    tables: list[Table] = []
    said: list[str] = []
    pictures = []
    for each in found:
        title = each.of.title if each.of and len(found) > 1 else ""
        pairs, left_out = _pairs(each)
        tables += [replace(table, title=title) for table in (*_overall(each), *pairs)]
        said += [f"{title}: {sentence}" if title else sentence for sentence in (*said_of_ranking(each), *left_out)]
        if (drawn := critical_difference(each)) is not None:
            pictures.append((f"critical-difference{f' of {title}' if title else ''}", aid, drawn))
    return Section(tables=tables, remarks=[*said, *remarks_of(found)], pictures=pictures)


def _overall(comparison: Comparison) -> list[Table]:
    rows = [
        (
            str(row["method"]),
            "",
            [
                Cell(number(row["mean"]), row["mean"]),
                Cell(spanned(comparison, row["low"], row["high"]), row["low"]),
                Cell(number(row["rank"], 2), row["rank"]),
                Cell(str(row["streams"]), row["streams"]),
            ],
        )
        for row in comparison.overall.sort_values("rank", kind="stable", na_position="last").to_dict("records")
    ]
    heads = (comparison.by.title, "95 % interval", "average rank", "streams")
    return [Table("methods over all streams", "method", heads, rows)] if rows else []


def _pairs(comparison: Comparison) -> tuple[list[Table], list[str]]:
    """Return the pairs that differ, the surest first, and what is to be said of those that are not listed."""
    found = comparison.pairs[comparison.pairs["significant"].astype(bool)].sort_values("p_holm", kind="stable")
    rows = [
        (
            f"{row['one']} – {row['other']}",
            "",
            [
                Cell(str(row["stream"])),
                Cell(number(row["difference"], signed=True), row["difference"]),
                Cell(spanned(comparison, row["low"], row["high"]), row["low"]),
                Cell(f"{row['p_holm']:.3g}", row["p_holm"]),
                Cell(str(row["n"]), row["n"]),
            ],
        )
        for row in found.head(MOST).to_dict("records")
    ]
    said = []
    if len(found) > MOST:
        said.append(f"{len(found)} pairs differ; the {MOST} surest are listed, `run.py compare` lists all")
    if len(comparison.pairs) and not rows:
        said.append(f"none of {len(comparison.pairs)} pairs of methods can be told apart by its seeds at 5 %")
    heads = ("stream", "difference", "95 % interval", "p (signed ranks, Holm)", "seeds")
    return ([Table("pairs of methods that differ on a stream", "pair", heads, rows)] if rows else []), said
