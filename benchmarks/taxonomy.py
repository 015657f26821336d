"""Transfers between eleven questions about MNIST, the policies that follow from them, executed; and twenty about rooms.

    PYTHONPATH=. python benchmarks/taxonomy.py probe FOLDER | tee benchmarks/output/taxonomy_probe.txt
    PYTHONPATH=. python benchmarks/taxonomy.py execute FOLDER | tee benchmarks/output/taxonomy_policies.txt
    PYTHONPATH=. python benchmarks/taxonomy.py scenes FOLDER | tee benchmarks/output/taxonomy_scenes.txt

``probe`` runs the scenario `taxonomy_mnist`, three seeds, and says for each question what each way comes to on
validation rows. ``execute`` finds for each seed, and each budget of questions with all labels, the policy worth most (0/1
errors, ordinal normalisation, the Boolean program); it reads from the log what that policy and 200 random ones come to on
validation rows, and runs that of some budgets: test rows. Questions that need no labels cost nothing. ``scenes`` runs the
scenario `scenes_taxonomy`, one seed, and says which questions stand together. Runs stay in the folder, and are not done again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from cl_engine.analysis.taxonomy.ahp import principal, win_rates
from cl_engine.analysis.taxonomy.supervision import Edge, Supervision, feasible_at_random, solve
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.results.transfers import Transfer, Transfers, compared_of, transfers_of

SEEDS = (0, 1, 2)
BUDGETS, EXECUTED = (0, 1, 2, 3), (1, 3)
FREE = (
    "rotation",
    "flip",
    "jigsaw",
)  # ink, slant and aspect could be computed too, and are counted as if a person labelled them
FULL, FEW = 12_000, 400  # training rows with labels of a question trained in full, and of one with a route
DRAWS = 200
APART = ("edges", "corners", "autoencode", "denoise", "in_paint")  # what is asked of rooms in two dimensions


def probe(folder: Path) -> None:
    """Run the taxonomy, and print for each question the score of each way, the mean over seeds."""
    path = Experiment.of("taxonomy_mnist", "taxonomy", SEEDS).run(folder / "taxonomy", device="cpu")
    run = open_run(path)
    found = transfers_of(run)
    ways, rows = len(found[0].probed), len(found[0].probed[0].errors)
    print(f"{ways} ways a seed, {rows} validation rows, {np.nansum(run.results['seconds']):.0f} s")
    print(
        "other, two: the best net of another task, and the best two, chosen by seed on the rows that they are measured on"
    )
    columns = {"full": 7, "scratch": 9, "untrained": 11, "self": 7, "copies": 8, "other": 7, "two": 7}
    print(f"{'':<10}" + "".join(f"{name:>{width}}" for name, width in columns.items()) + "   other, by seed")
    for task, name in enumerate(found[0].names):
        scores, best = [], []
        for of_seed in found:
            score = {(one.kind, one.sources): one.score for one in of_seed.to(task)}
            own = [("full", ()), ("scratch", ()), ("untrained", ()), ("transfer", (task,)), ("copies", (task, task))]
            others = [way for way in score if way[0] == "transfer" and task not in way[1]]
            single, two = (max((way for way in others if len(way[1]) == k), key=lambda way: score[way]) for k in (1, 2))
            scores.append([score[way] for way in (*own, single, two)])
            best.append(found[0].names[single[1][0]])
        told = zip(np.mean(scores, axis=0), columns.values(), strict=True)
        print(f"{name:<10}" + "".join(f"{value:>{width}.3f}" for value, width in told) + f"   {', '.join(best)}")


def edges_of(of_seed: Transfers) -> tuple[list[Edge], dict[tuple[tuple[str, ...], str], Transfer]]:
    """Return all edges a policy can take, by names and worth their affinity, and the transfer that each is."""
    edges, ways = [], {}
    for task, name in enumerate(of_seed.names):
        asked = [
            one
            for one in of_seed.to(task)
            if one.kind == "full" or (one.kind == "transfer" and task not in one.sources)
        ]
        values, _, _ = principal(win_rates(np.stack([one.errors for one in asked])))
        for one, value in zip(asked, values, strict=True):
            sources = (name,) if one.kind == "full" else tuple(of_seed.names[source] for source in one.sources)
            edges.append(Edge(sources, name, float(value)))
            ways[(sources, name)] = one
    return edges, ways


def execute(folder: Path) -> None:
    """Print what the best policy of each budget, and random ones, come to, and run some of the best."""
    found, began = transfers_of(open_run(folder / "taxonomy")), time.perf_counter()
    columns = {"seed": 4, "budget": 8, "labels": 8, "policy": 8, "random": 8, "best": 7, "single": 8, "full": 7}
    print("".join(f"{name:>{width}}" for name, width in columns.items()) + "   executed   trained with labels")
    for of_seed in found:
        edges, ways = edges_of(of_seed)
        costs = {name: int(name not in FREE) for name in of_seed.names}

        def score(policy: Supervision, ways: dict[tuple[tuple[str, ...], str], Transfer] = ways) -> float:
            return float(np.mean([ways[(edge.sources, edge.target)].score for edge in policy.edges]))

        whole = np.mean([one.score for one in of_seed.probed if one.kind == "full"])
        for budget in BUDGETS:
            policy = solve(edges, costs, budget, own_nets=True)
            any_edge, singles = edges, [edge for edge in edges if len(edge.sources) == 1]
            drawn = [
                [score(one) for one in feasible_at_random(some, costs, budget, DRAWS, own_nets=True)]
                for some in (any_edge, singles)
            ]
            routes = {edge.target: list(edge.sources) for edge in policy.edges if edge.sources != (edge.target,)}
            trained = [name for name in of_seed.names if name not in routes and costs[name]]
            bill = (len(trained) * FULL + sum(costs[name] for name in routes) * FEW) / (FULL * sum(costs.values()))
            numbers = [bill, score(policy), np.mean(drawn[0]), max(drawn[0]), np.mean(drawn[1]), whole]
            told = "".join(
                f"{value:>{width}.3f}" for value, width in zip(numbers, list(columns.values())[2:], strict=True)
            )
            run = (
                run_policy(folder / f"policy-{of_seed.seed}-{budget}", of_seed, routes)
                if budget in EXECUTED
                else np.nan
            )
            print(f"{of_seed.seed:>4}{budget:>8}{told}{run:>11.3f}   {', '.join(trained) or '-'}", flush=True)
    print(
        f"{time.perf_counter() - began:.0f} s; policy, random (mean and best of {DRAWS}; of single nets alone) and full: as the"
    )
    print("log has them, on validation rows; executed: test rows; labels: share of those that full supervision takes")


def run_policy(folder: Path, of_seed: Transfers, routes: dict[str, list[str]]) -> float:
    """Run a policy with the labels that it has, and return its mean accuracy on test rows."""
    names = list(of_seed.names)
    order = [names.index(name) for name in (*(name for name in names if name not in routes), *routes)]
    changes = {
        "stream.task_order": order,
        "stream.labelled": [FEW if name in routes else FULL for name in names],
        "stream.validation": 0.0,
        "agenda.evaluate_every": 0,
    }
    path = Experiment.of("taxonomy_mnist", "policy", (of_seed.seed,), routes=routes, **changes).run(
        folder, device="cpu"
    )
    final = open_run(path).final
    assert final is not None
    return float(final.acc.values[0])


def scenes(folder: Path) -> None:
    """Run the taxonomy of rooms; print the best sources of each question, groups by affinity, and the likeness of nets."""
    run = open_run(Experiment.of("scenes_taxonomy", "taxonomy", (0,)).run(folder / "scenes", device="cpu"))
    (found,) = transfers_of(run)
    names = found.names
    print(
        f"{len(found.probed)} ways, {len(found.probed[0].losses)} validation rows, {np.nansum(run.results['seconds']):.0f} s"
    )
    affinity = np.zeros((len(names), len(names)))  # of a source to a target
    for task, name in enumerate(names):
        singles = {one.sources[0]: one for one in found.to(task) if one.kind == "transfer" and one.order == 1}
        values, _, _ = principal(win_rates(np.stack([singles[source].losses for source in range(len(names))])))
        affinity[:, task] = values
        best = [source for source in np.argsort(-values) if source != task][:3]
        print(f"{name:<14} ← {', '.join(f'{names[source]} {values[source]:.3f}' for source in best)}")
    groups = fcluster(linkage(np.log(affinity), "average", metric="correlation"), 4, "maxclust")
    for group in range(1, groups.max() + 1):
        print(f"group {group}: {', '.join(name for name, own in zip(names, groups, strict=True) if own == group)}")
    for kind, values in compared_of(run).items():
        plane = np.array([name in APART for name in names])
        alike = plane[:, None] == plane
        inside, between = np.nanmean(values[0][alike]), np.nanmean(values[0][~alike])
        print(f"{kind}: {inside:.3f} where both or neither is asked in two dimensions, otherwise {between:.3f}")


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    what, folder = sys.argv[1:]
    {"probe": probe, "execute": execute, "scenes": scenes}[what](Path(folder))


if __name__ == "__main__":
    main()
