"""The rows and sentences of a comparison as people read them, for every kind of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from cl_engine.analysis.comparison.compare import Comparison
from cl_engine.analysis.comparison.seeds import ALPHA
from cl_engine.core.text import UNDEFINED, duration, number, size


def people(comparison: Comparison, between: str = "–") -> pd.DataFrame:
    """Return the table as people read it, all cells text."""
    rows = []
    for row in comparison.table.to_dict("records"):
        fronts = [name for name, held in (("memory", row["memory_front"]), ("time", row["time_front"])) if held]
        rows.append(
            {
                "stream": row["stream"],
                "method": row["method"],
                "seeds": str(row["n"]),
                comparison.by.title: _value(comparison, row["mean"]),
                "95 % interval": spanned(comparison, row["low"], row["high"], between),
                "memory": size(row["memory"]),
                "time": duration(row["seconds"]),
                "front": ", ".join(fronts),
            }
        )
    return pd.DataFrame(rows)


def over_streams(comparison: Comparison, between: str = "–") -> pd.DataFrame:
    """Return the table over streams as people read it, all cells text."""
    ordered = comparison.overall.sort_values("rank", kind="stable", na_position="last")
    rows = [
        {
            "method": row["method"],
            "streams": str(row["streams"]),
            comparison.by.title: _value(comparison, row["mean"]),
            "95 % interval": spanned(comparison, row["low"], row["high"], between),
            "average rank": number(row["rank"], 2),
        }
        for row in ordered.to_dict("records")
    ]
    return pd.DataFrame(rows)


def of_pairs(comparison: Comparison, stream: str) -> list[str]:
    """Return a sentence for each two methods that differ on a stream."""
    held = comparison.pairs[(comparison.pairs["stream"] == stream) & comparison.pairs["significant"].astype(bool)]
    return [
        f"{row['one']} and {row['other']} differ: {_value(comparison, row['difference'])} "
        f"(p = {row['p_holm']:.3g}, Wilcoxon's signed ranks over {row['n']} seeds, Holm)"
        for row in held.to_dict("records")
    ]


def said_of_ranking(comparison: Comparison) -> list[str]:
    """Return what the tests over streams say, a sentence each."""
    ranking = comparison.ranking
    if ranking is None:
        return []
    said = []
    if math.isfinite(ranking.friedman):
        said.append(
            f"Friedman's test that all methods are alike, over {ranking.streams} streams: p = {ranking.friedman:.3g}"
        )
    for (one, other), (_, p) in ranking.pairs.items():
        if p < ALPHA:
            said.append(f"{one} ranks before {other} (p = {p:.3g}, Wilcoxon's signed ranks over streams, Holm)")
    return said


def remarks_of(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the remarks of comparisons, each once."""
    return list(dict.fromkeys(remark for each in comparisons for remark in each.remarks))


def told(comparisons: Sequence[Comparison]) -> list[str]:
    """Return all sentences on rankings, then all remarks."""
    return [*(sentence for each in comparisons for sentence in said_of_ranking(each)), *remarks_of(comparisons)]


def legend(comparisons: Sequence[Comparison]) -> str:
    """Return what the columns are."""
    means = "; ".join(
        f"{', '.join(titles)}: mean over seeds, {'higher' if higher else 'lower'} is better"
        for higher in (True, False)
        if (titles := [each.by.title for each in comparisons if each.by.higher is higher])
    )
    gain = comparisons[0].gain.title.partition(" ")[0]
    good = "at least its" if all(each.gain.higher for each in comparisons) else "as good a"
    return (
        f"{means}. Interval: percentile bootstrap over seeds. Memory: bytes a "
        f"seed holds at the end. Time: a seed's. Front: no other has {good} {gain} for less of that."
    )


def spanned(comparison: Comparison, low: float, high: float, between: str = "–") -> str:
    """Return an interval as people read it."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDEFINED
    return f"{_value(comparison, low)} {between} {_value(comparison, high)}"


def _value(comparison: Comparison, value: float) -> str:
    match comparison.by.unit:
        case "byte":
            return size(value)
        case "s":
            return duration(value)
    large = math.isfinite(value) and abs(value) >= 1000
    return f"{value:.3g}" if large else number(value, signed=comparison.by.signed)
