"""A taxonomy as text: for the terminal, for papers (LaTeX), and for other programs (CSV, JSON)."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cl_engine.analysis.comparison.tables import TERMINAL_WIDTH, jsonable
from cl_engine.analysis.names import one_line
from cl_engine.analysis.report.taxonomy_findings import Findings, labels_of, named_families, tables
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.analysis.taxonomy.affinities import Affinities, Way
from cl_engine.analysis.taxonomy.policies import Policy
from cl_engine.core.text import cell

POLICY = ("share", "score", "quality")  # what is said of each policy at random


def terminal(found: Findings) -> str:
    """Return the tables for a terminal; with colours where it is one."""
    console = Console(highlight=False)
    width = console.width if console.is_terminal else max(TERMINAL_WIDTH, console.width)
    file = io.StringIO()
    out = Console(highlight=False, file=file, width=width, force_terminal=console.is_terminal)
    out.print(Text(one_line(found.head), style="bold"))
    for title, rows in tables(found):
        out.print()
        out.print(Text(title, style="bold"))
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for column in rows.columns:
            text = column in ("task", "reads", "best source", "trained", "against", "over") or (
                column == "affinity" and "over" in rows
            )
            table.add_column(column, justify="left" if text else "right", overflow="fold")
        for cells in rows.itertuples(index=False):
            table.add_row(*(Text(one_line(str(text))) for text in cells))
        out.print(table)
    if kinds := named_families(found.affinities):
        out.print(Text(one_line(f"\nfamilies: {'; '.join(', '.join(names) for names in kinds)}")))
    for remark in found.remarks:
        out.print(Text(one_line(f"note: {remark}")))
    return file.getvalue()


def csv(found: Findings) -> str:
    """Return a row a way with all its numbers, means over seeds and half widths of their 95 % t intervals."""
    rows = []
    for way in found.affinities.ways:
        sources = " + ".join(found.affinities.names[source] for source in way.sources)
        row: dict[str, Any] = {
            "target": cell(one_line(found.affinities.names[way.target])),
            "sources": cell(one_line(sources)),
            "kind": way.kind,
            "order": len(way.sources),
            "labels": labels_of(found.affinities, way),
            "in_policy": any(way is taken for taken in found.policy.ways),
        }
        for name, values in way.values.items():
            row |= {name: float(values.mean()), f"{name}_half": float(interval(values)) if len(values) > 1 else np.nan}
        rows.append(row)
    text: str = pd.DataFrame(rows).to_csv(index=False)
    return text


def as_json(found: Findings) -> str:
    """Return all of it, by seed; NaN is ``null``."""
    affinities = found.affinities
    tree = {
        "title": found.title,
        "tasks": list(affinities.names),
        "labels": list(affinities.labels),
        "free": [affinities.names[task] for task in sorted(affinities.free)],
        "seeds": list(affinities.seeds),
        "outcomes": affinities.outcomes,
        "consistency_ratio": affinities.consistency.tolist(),
        "families": named_families(affinities),
        "ways": [_tree(way, affinities) for way in affinities.ways],
        "objective": found.plans.objective,
        "order": found.plans.order,
        "policies": [_policy(policy, affinities) for policy in found.plans.best],
        "at_random": [
            {"budget": drawn[0].budget, **{name: [_mean(each, name) for each in drawn] for name in POLICY}}
            for drawn in found.plans.random
            if drawn
        ],
        "budget": found.policy.budget,
        "against": [
            {**asdict(held.found), "name": held.name, "affinity": held.way, "over": held.seeds, "p_holm": held.p_holm}
            for held in found.held
        ],
        "remarks": found.remarks,
    }
    return json.dumps(jsonable(tree), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def latex(found: Findings) -> str:
    """Return the tables as booktabs tables, everything escaped; they need ``\\usepackage{booktabs}``."""
    parts = [f"% {one_line(found.head)}"]
    for title, rows in tables(found):
        shown = rows.map(lambda text: one_line(str(text)))
        styled = shown.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
        parts += [f"% {title}", styled.to_latex(hrules=True)]
    return "\n".join([*parts, *(f"% {one_line(remark)}" for remark in found.remarks)]) + "\n"


def _tree(way: Way, affinities: Affinities) -> dict[str, Any]:
    names = affinities.names
    sources = [names[source] for source in way.sources]
    values = {name: found.tolist() for name, found in way.values.items()}
    labels = labels_of(affinities, way)
    return {"target": names[way.target], "sources": sources, "kind": way.kind, "labels": labels, "values": values}


def _policy(policy: Policy, affinities: Affinities) -> dict[str, Any]:
    names = affinities.names
    return {
        "budget": policy.budget,
        "trained": [names[task] for task in policy.trained],
        "routes": {
            names[way.target]: [names[source] for source in way.sources] for way in policy.ways if way.kind != "full"
        },
        "worth": policy.worth,
        "share": policy.share,
        "score": policy.score.tolist(),
        "quality": policy.quality.tolist(),
    }


def _mean(policy: Policy, name: str) -> float:
    return float(np.mean(getattr(policy, name)))


KINDS = {".csv": csv, ".json": as_json, ".tex": latex}
