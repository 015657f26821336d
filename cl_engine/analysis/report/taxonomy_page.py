"""A page about the taxonomy of a run's tasks: the policy, what labels buy, affinities, families, and what affinity goes with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cl_engine.analysis.names import one_line
from cl_engine.analysis.plots import taxonomy as pictures
from cl_engine.analysis.plots.gallery import Picture
from cl_engine.analysis.report.document import drawn, page
from cl_engine.analysis.report.tables import Cell, Table
from cl_engine.analysis.report.taxonomy_findings import Findings, by_budget, by_candidate, by_source, by_task

DEFINITIONS = {
    "affinity": "Share of a way in the positive eigenvector of the ratios of win rates among all ways to a task (analytic "
    "hierarchy process, Saaty 1980, as in Zamir et al. 2018); over a task's ways it sums to 1.",
    "quality": "Win rate against the task's own net with all labels; .5: as good.",
    "gain": "Win rate against a whole net trained on the few labels of the transfer; .5: as good.",
    "consistency ratio": "0 where all comparisons of a task's ways agree with each other, about 1 where they are random; the "
    "usual limit is .1.",
    "Borda, Bradley–Terry": "Two other ways from win rates to shares: the mean win rate, and the likeliest strengths.",
    "budget": "Tasks that may be trained with all their labels, those whose labels are free not counted. The others read nets of "
    "trained tasks, frozen, by a small readout with few labels.",
    "policy": "Who is trained and who reads whom: the optimum of a Boolean program over all ways that every seed probed.",
    "at random": "Policies of the same budget, with tasks drawn at random and any ways that these allow.",
    "Mantel's test": "Correlation of two matrices off their diagonals; p is the share of orders of the tasks, the given one "
    "among them, that correlate as much. Holm: corrected for the number of matrices that affinity was held against.",
}


def written(found: Findings, scenario: str) -> str:
    """Return the page about what was found; ``scenario`` is that of its policy, as TOML."""
    letters: dict[str, str] = {}
    affinities, policy = found.affinities, found.policy
    sections = [
        _section(
            "Policy",
            [("how each task is answered", by_task(found))],
            [
                Picture(
                    "policy",
                    "Left: trained with all labels. Right: who reads their nets, and quality (.5: as good as all labels).",
                    lambda: pictures.policy_graph(policy, affinities),
                ),
            ],
            letters,
        ),
        _section(
            "Budgets",
            [("the best policy for each budget", by_budget(found))],
            [
                Picture(
                    "labels",
                    "Up and to the left is better; the band is what choosing at random comes to.",
                    lambda: pictures.labels_against_score(found.plans, affinities),
                ),
            ],
            letters,
        ),
        _section(
            "Affinities",
            [("best source of each task, another than itself", by_source(found))],
            [
                Picture(
                    "affinities",
                    "Down a column: whose net serves the task. Bright: better than other ways to it.",
                    lambda: pictures.affinity_map(affinities),
                ),
                Picture(
                    "families",
                    "Joined further left: served by the same nets.",
                    lambda: pictures.family_tree(affinities),
                ),
            ],
            letters,
        ),
    ]
    if found.held:
        sections.append(
            _section(
                "Similarity",
                [("what affinity goes with", by_candidate(found))],
                [
                    Picture(
                        "mantel",
                        "Each point is two tasks. Rising: they transfer where they are alike.",
                        lambda: pictures.held_against_affinity(affinities, found.candidates, found.held),
                    ),
                    Picture(
                        "matrices",
                        "The same blocks: the same relations.",
                        lambda: pictures.matrices_beside_affinity(affinities, found.candidates),
                    ),
                ],
                letters,
            )
        )
    return page(
        "taxonomy.html",
        letters,
        title=f"Taxonomy of {one_line(found.title)}",
        subtitle=one_line(found.head),
        remarks=[one_line(remark) for remark in found.remarks],
        sections=sections,
        definitions=DEFINITIONS,
        scenario=scenario,
    )


def _section(
    name: str, tables: Sequence[tuple[str, pd.DataFrame]], shown: Sequence[Picture], letters: dict[str, str]
) -> dict[str, Any]:
    figures = [(picture, picture.draw()) for picture in shown]
    return {
        "id": name.lower(),
        "name": name,
        "tables": [_table(about, rows) for about, rows in tables if len(rows)],
        "pictures": [
            drawn(picture.name, picture.aid, fig, "taxonomy", letters) for picture, fig in figures if fig is not None
        ],
    }


def _table(about: str, rows: pd.DataFrame) -> Table:
    heads = list(rows.columns)
    cells = [
        (one_line(str(first)), "", [Cell(one_line(str(text)), _number(str(text))) for text in rest])
        for first, *rest in rows.itertuples(index=False)
    ]
    return Table(about, heads[0], heads[1:], cells)


def _number(text: str) -> float | None:
    """Return the number that a cell begins with, to sort by; None if it is a text."""
    found = re.match(r"[+-]?[\d,]*\.?\d+(e[+-]?\d+)?", text)
    return float(found[0].replace(",", "")) if found else None
