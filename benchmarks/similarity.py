"""Does affinity go with how alike nets are? The tests of docs/transfer.md, on the log of a run of the strategy `taxonomy`.

    PYTHONPATH=. python benchmarks/similarity.py RUN | tee benchmarks/output/similarity.txt

Log affinity, symmetric, against what the run compared: Spearman's ρ and Mantel's p, over all seeds and in each; beside it the
same with the tasks of the affinities in ten other orders, in which nothing should go together.
"""

from __future__ import annotations

import sys

import numpy as np

from cl_engine.analysis.similarity import held_against, mantel
from cl_engine.analysis.taxonomy.affinities import affinities_in
from cl_engine.results.run import open_run
from cl_engine.results.transfers import compared_of

ORDERS = 10


def main(path: str) -> None:
    run = open_run(path)
    affinities, candidates = affinities_in(run), compared_of(run)
    logs = np.log(affinities.matrix())
    print(f"{run.scenario}, {len(affinities.names)} tasks, {len(affinities.seeds)} seeds")
    for held in held_against(logs, candidates, affinities.seeds):
        if held.way == "symmetric":
            print(
                f"{held.name:<8}{held.seeds:<11}ρ = {held.found.rho:+.2f}  p = {held.found.p:.4f}  Holm {held.p_holm:.4f}"
            )
    mean = logs.mean(axis=0)
    random = np.random.default_rng(0)
    orders = [random.permutation(len(mean)) for _ in range(ORDERS)]
    for name, found in candidates.items():
        shuffled = [
            mantel(((mean + mean.T) / 2)[np.ix_(order, order)], found.mean(axis=0), permutations=2000).p
            for order in orders
        ]
        print(f"{name:<8}shuffled   p of {ORDERS} orders: least {min(shuffled):.3f}, median {np.median(shuffled):.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
