"""A comparison as text: for the terminal, for papers (LaTeX, Markdown), and for other programs (CSV, JSON)."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cl_engine.analysis.comparison.compare import Comparison
from cl_engine.analysis.comparison.rows import legend, of_pairs, over_streams, people, remarks_of, said_of_ranking, told
from cl_engine.analysis.names import one_line
from cl_engine.core.measure import Measure
from cl_engine.core.narrow import fitted
from cl_engine.core.text import cell
from cl_engine.errors import unknown

TERMINAL_WIDTH = 110  # where the output is no terminal
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


def written(comparison: Comparison | Sequence[Comparison], kind: str = "terminal") -> str:
    """Return a comparison as text of a kind: ``terminal``, ``csv``, ``latex``, ``markdown`` or ``json``.

    Of several, one for each thing that tasks are measured by, the tables stand below each other; CSV has a column that names
    the measure, JSON a list.

    Raises:
        UsageError: if there is no such kind.
    """
    if kind not in KINDS:
        raise unknown("format", kind, KINDS)
    return KINDS[kind]([comparison] if isinstance(comparison, Comparison) else list(comparison))


def terminal(comparisons: Sequence[Comparison]) -> str:
    """Return tables a stream, then pairs that differ, ranks and remarks; with colours where it is a terminal."""
    console = Console(highlight=False)
    width = console.width if console.is_terminal else max(TERMINAL_WIDTH, console.width)
    out = Console(highlight=False, file=io.StringIO(), width=width, force_terminal=console.is_terminal)
    for comparison in comparisons:
        rows = people(comparison)
        for stream in comparison.streams:
            out.print(_text(stream, "bold"))
            held = rows[rows["stream"] == stream].drop(columns="stream")
            out.print(fitted(_rich(held, comparison.table.loc[held.index, "best"].tolist()), out))
            for sentence in of_pairs(comparison, stream):
                out.print(_text(sentence))
            out.print()
        if len(comparison.overall):
            out.print(_text(f"over {len(comparison.streams)} streams", "bold"))
            out.print(fitted(_rich(over_streams(comparison), [False] * len(comparison.overall)), out))
            for sentence in said_of_ranking(comparison):
                out.print(_text(sentence))
            out.print()
    for remark in remarks_of(comparisons):
        out.print(_text(f"note: {remark}"))
    out.print(_text(legend(comparisons), "dim"))
    file = out.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def csv(comparisons: Sequence[Comparison]) -> str:
    """Return a row a case with all its numbers; texts that a spreadsheet would run as a formula begin with ``'``.

    What the tasks are measured by is a column ``measure``, where it is not always accuracy.
    """
    named = any(each.of != Measure("accuracy") for each in comparisons)
    table = pd.concat(
        [each.table.assign(**{"measure": each.of.title if each.of else ""} if named else {}) for each in comparisons]
    )
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = [cell(str(text)) for text in table[column]]
    text: str = table.to_csv(index=False)
    return text


def latex(comparisons: Sequence[Comparison]) -> str:
    """Return booktabs tables, everything escaped: a row a case, the best of each stream bold, and the ranks below.

    They need ``\\usepackage{booktabs}``.
    """
    parts = [f"% {one_line(legend(comparisons))}"]
    for each in comparisons:
        parts += [*([""] if each is not comparisons[0] else []), *_in_latex(each)]
    parts += [f"% {one_line(sentence)}" for sentence in told(comparisons)]
    return "\n".join(parts) + "\n"


def _in_latex(comparison: Comparison) -> list[str]:
    rows, best = people(comparison, between="--"), comparison.table["best"]
    blank = rows["stream"].duplicated()
    rows["stream"] = rows["stream"].mask(blank, "")
    body = _latex(rows, best.tolist())
    lines = body.splitlines()
    start = lines.index(r"\midrule") + 1
    for at in sorted((start + k for k in np.flatnonzero(~blank.to_numpy()) if k), reverse=True):
        lines.insert(at, r"\midrule")
    if len(comparison.overall):
        lines += ["", *_latex(over_streams(comparison, "--"), [False] * len(comparison.overall)).splitlines()]
    return lines


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return tables in GitHub's Markdown, the best of each stream bold, and the remarks as a list."""
    parts = []
    for each in comparisons:
        parts.append(_markdown(people(each), each.table["best"].tolist()))
        if len(each.overall):
            parts.append(_markdown(over_streams(each), [False] * len(each.overall)))
    said = [*told(comparisons), legend(comparisons)]
    parts.append("\n".join(f"- {_literal(sentence)}" for sentence in said))
    return "\n\n".join(parts) + "\n"


def as_json(comparisons: Sequence[Comparison]) -> str:
    """Return all of it: values by seed, tests, ranks, remarks, and the files it was made from; NaN is ``null``."""
    content = [_as_tree(each) for each in comparisons]
    return (
        json.dumps(jsonable(content if len(content) > 1 else content[0]), indent=1, ensure_ascii=False, allow_nan=False)
        + "\n"
    )


def _as_tree(comparison: Comparison) -> dict[str, Any]:
    ranking, of = comparison.ranking, comparison.of
    return {
        "by": comparison.by.name,
        **({} if of == Measure("accuracy") else {"measure": vars(of) if of else None}),
        "cases": [
            {
                **row,
                "seeds": list(case.seeds),
                "values": {name: values.tolist() for name, values in case.values.items()},
                "logs": [str(log) for run in case.runs for log in run.logs],
                "run_ids": [run.attributes.get("run_id", "") for run in case.runs],
            }
            for case, row in zip(comparison.groups, comparison.table.to_dict("records"), strict=True)
        ],
        "pairs": comparison.pairs.to_dict("records"),
        "overall": comparison.overall.to_dict("records"),
        "ranking": None
        if ranking is None
        else {
            "methods": list(ranking.methods),
            "ranks": list(ranking.ranks),
            "streams": ranking.streams,
            "friedman": ranking.friedman,
            "pairs": [{"one": a, "other": b, "p": p, "p_holm": q} for (a, b), (p, q) in ranking.pairs.items()],
            "groups": [list(ranking.methods[a : b + 1]) for a, b in ranking.groups],
            "critical_difference": ranking.critical_difference,
        },
        "remarks": list(comparison.remarks),
    }


KINDS = {"terminal": terminal, "csv": csv, "latex": latex, "markdown": markdown, "json": as_json}


def _rich(rows: pd.DataFrame, best: Sequence[bool]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in rows.columns:
        text = column in ("method", "front")
        table.add_column(str(column), justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for cells, bold in zip(rows.itertuples(index=False), best, strict=True):
        table.add_row(*(_text(str(cell), "bold" if bold else "") for cell in cells))
    return table


def _latex(rows: pd.DataFrame, best: Sequence[bool]) -> str:
    shown = rows.map(lambda cell: one_line(str(cell))).reset_index(drop=True)
    bold = pd.DataFrame("", index=shown.index, columns=shown.columns)
    bold.loc[list(best), ["method", shown.columns[3]]] = "textbf:--rwrap;"
    styled = shown.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    kinds = ["l" if column in ("stream", "method", "front") else "r" for column in shown.columns]
    text: str = styled.apply(lambda _: bold, axis=None).to_latex(hrules=True, column_format="".join(kinds))
    return text


def _markdown(rows: pd.DataFrame, best: Sequence[bool]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    ruler = ["---" if column in ("stream", "method", "front") else "---:" for column in rows.columns]
    lines = [line([_literal(str(column)) for column in rows.columns]), line(ruler)]
    for cells, bold in zip(rows.itertuples(index=False), best, strict=True):
        shown = [_literal(str(cell)) for cell in cells]
        strong = (list(rows.columns).index("method"), 3) if bold else ()
        lines.append(line([f"**{text}**" if at in strong else text for at, text in enumerate(shown)]))
    return "\n".join(lines)


def _literal(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", one_line(text))


def jsonable(value: Any) -> Any:
    """Return what JSON can hold: NaN as null, and numbers of NumPy's as Python's."""
    match value:
        case dict():
            return {str(key): jsonable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [jsonable(inner) for inner in value]
        case bool() | np.bool_():
            return bool(value)
        case float() | np.floating():
            return float(value) if math.isfinite(value) else None
        case np.integer():
            return int(value)
    return value


def _text(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style)
