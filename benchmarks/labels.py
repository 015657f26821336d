"""Two thirds fewer labels? The published Taskonomy measurements, solved for few trained tasks: the tables of docs/transfer.md.

    PYTHONPATH=. python benchmarks/labels.py | tee benchmarks/output/labels.txt

Policies are best in quality (win rate against full supervision; .5: as good). The untrained net costs nothing; every other source
does, those without human labels too. Labels are γ·N + (T − γ)·n of T·N, with N for full supervision and n for a transfer. What N
was is not among the published numbers, so that the shares stand for several. ± is the sample deviation over draws of ten tasks.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from cl_engine.analysis.taxonomy.supervision import Edge, Supervision, solve

FOLDER = Path(__file__).parent / "taskonomy"
FILES = {"16k": 16_000, "1k": 1_000}  # labels of a transfer
FULL = (60_000, 120_000, 240_000)  # labels of full supervision, supposed
TASKS, DRAWS, BUDGETS = 10, 25, (2, 3, 5)


Numbers = tuple[float, float, float]  # affinity, quality, gain
Ways = list[tuple[tuple[str, ...], str, Numbers]]


def published(file: str) -> Ways:
    """Return sources, target and numbers of each way; a target's own net reads itself. Scratch, without affinity, is left out."""
    rows = json.loads((FOLDER / f"taskonomy_{file}.json").read_text())["rows"]
    return [
        ((target,) if sources == ["self"] else tuple(sources), target, (affinity, quality, gain))
        for sources, target, affinity, quality, gain in rows
        if affinity is not None
    ]


def best(ways: Ways, budget: int, column: int = 1, choose: int | None = None) -> tuple[Supervision, np.ndarray]:
    """Return the policy that is best in a column, for all targets or as many as are to be chosen, and its mean numbers."""
    edges = {Edge(sources, target, numbers[column]): numbers for sources, target, numbers in ways}
    costs = {source: float(source != "random") for edge in edges for source in edge.sources}
    found = solve(list(edges), costs, budget, choose_targets=choose)
    return found, np.mean([edges[edge] for edge in found.edges], axis=0)


def shares(labels: int, budget: int) -> str:
    return "  ".join(f"{(budget + (TASKS - budget) * labels / full) / TASKS:4.0%}" for full in FULL)


def main() -> None:
    began = time.perf_counter()
    print("the best ten of 22 tasks, policies best in quality")
    full = ", ".join(f"{labels:,}" for labels in FULL)
    print(f"{'labels a transfer':<18}{'γ':>3}{'quality':>9}{'gain':>7}   labels, if full supervision has {full}")
    for file, labels in FILES.items():
        for budget in BUDGETS:
            found, (_, quality, gain) = best(published(file), budget, choose=TASKS)
            print(f"{labels:<18,}{budget:>3}{quality:>9.3f}{gain:>7.3f}   {shares(labels, budget)}", flush=True)
            if budget == 3:
                print(f"   tasks: {', '.join(sorted(str(edge.target) for edge in found.edges))}")
                print(f"   trained: {', '.join(str(source) for source in found.trained if source != 'random')}")
    print(f"\nten tasks at random, γ = 3, {DRAWS} draws")
    for file, labels in FILES.items():
        ways = published(file)
        targets = sorted({target for _, target, _ in ways})
        random = np.random.default_rng(0)
        drawn = [set(random.choice(targets, TASKS, replace=False)) for _ in range(DRAWS)]
        for column, objective in ((1, "quality"), (0, "affinity")):
            quality = np.array([best([way for way in ways if way[1] in among], 3, column)[1][1] for among in drawn])
            spread = f"{quality.mean():.3f} ± {quality.std(ddof=1):.3f}   least {quality.min():.3f}, most {quality.max():.3f}"
            print(f"{labels:<18,}best in {objective:<9} quality {spread}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
