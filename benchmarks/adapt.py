"""To tune or not to tune: five targets ever further from the backbone, each way of learning them, and what advice is worth.

PYTHONPATH=. python benchmarks/adapt.py measure 100 0 1 2 3 4    # every way on its own: output/adapt_LABELS_SEED.json
PYTHONPATH=. python benchmarks/adapt.py measure 2000 2 3 4
PYTHONPATH=. python benchmarks/adapt.py | tee benchmarks/output/adapt.txt    # tables, and the picture, from those files
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

OUTPUT = Path(__file__).parent / "output"
CLASSES = 5
WAYS: dict[str, dict[str, Any]] = {
    "linear": {"choose": "extract", "head": "linear"},
    "mlp": {"choose": "extract"},
    "tuned": {"choose": "tune"},
    "scratch": {"choose": "scratch"},
}
TARGETS = ("same", "digits 5-9", "turned", "quadrants swapped", "pixels permuted")
NEAR, MARGIN = (0.98, 0.95, 0.9, 0.85, 0.8), (0.0, 0.05, 0.1, 0.2)
CHOSEN_ON, REPORTED = (0, 1), (2, 3, 4)  # seeds


def measured(labels: int, seed: int) -> list[dict[str, Any]]:
    """Return what each way came to on each target, of one seed of learners and of the stream."""
    rows: list[dict[str, Any]] = []
    for way, options in WAYS.items():
        changes = {"stream.samples_per_class": labels // CLASSES, "stream.seed": seed, **options}
        experiment = Experiment.of("adapt_mnist", "adapt", (seed,), **changes)
        with tempfile.TemporaryDirectory() as folder:
            run = open_run(experiment.run(folder, device="cpu"))
            events, scores = run.table("events"), run.results["accuracy"].sel(seed=seed).values
        for task, target in enumerate(TARGETS):
            own = events[(events["step"] == task) & (events["seed"] != -1)].set_index(["kind", "name"])["value"]
            cost = events[
                (events["step"] == task) & (events["name"] == "flops") & (events["kind"] == "AdaptationTried")
            ]
            rows.append(
                {
                    "seed": seed,
                    "labels": labels,
                    "target": target,
                    "way": way,
                    "test": float(scores[-1, task]),
                    "validation": float(own["AdaptationTried", "validation"]),
                    "promise": float(own["AdaptationPromised", "promise"]),
                    "promise_random": float(own["AdaptationPromised", "promise_random"]),
                    "flops": float(cost["value"].iloc[0]),
                    "seconds": float(cost["seconds"].iloc[0]),
                }
            )
        print(seed, labels, way, [f"{row['test']:.3f}" for row in rows[-len(TARGETS) :]], flush=True)
    return rows


def regrets(rows: list[dict[str, Any]], near: float, margin: float) -> dict[str, list[tuple[float, float]]]:
    """Return for each rule the regret on validation rows and the accuracy on test rows, of each target, seed and count."""
    found: dict[str, list[tuple[float, float]]] = {
        rule: [] for rule in ("advice", "mlp", "tuned", "scratch", "validation")
    }
    cases = {(row["seed"], row["labels"], row["target"]) for row in rows}
    for case in sorted(cases):
        own = {row["way"]: row for row in rows if (row["seed"], row["labels"], row["target"]) == case}
        ways = [own[way] for way in ("mlp", "tuned", "scratch")]
        promise, other = own["mlp"]["promise"], own["mlp"]["promise_random"]
        advised = "mlp" if promise >= near else "tuned" if promise - other > margin else "scratch"
        best = max(ways, key=lambda row: row["validation"])
        for rule, of_rule in found.items():
            chosen = best if rule == "validation" else own[advised if rule == "advice" else rule]
            of_rule.append((best["validation"] - chosen["validation"], chosen["test"]))
    return found


def gap(rows: list[dict[str, Any]]) -> float:
    """Return tuned less frozen on test rows, of one case; the frozen net's head is that which is better on validation rows."""
    own = {row["way"]: row for row in rows}
    frozen = max((own["linear"], own["mlp"]), key=lambda row: row["validation"])
    return float(own["tuned"]["test"] - frozen["test"])


def told(rows: list[dict[str, Any]]) -> None:
    """Print the tables."""
    for labels in sorted({row["labels"] for row in rows}):
        mine = [row for row in rows if row["labels"] == labels and row["seed"] in REPORTED]
        seeds = sorted({row["seed"] for row in mine})
        print(f"\n{labels} labels, seeds {seeds}: accuracy on test rows; promise, and that of an untrained net")
        print(
            f"{'target':<20}"
            + "".join(f"{way:>9}" for way in WAYS)
            + f"{'tuned − frozen':>24}{'promise':>9}{'random':>8}"
        )
        for target in TARGETS:
            own = [row for row in mine if row["target"] == target]
            means = [np.mean([row["test"] for row in own if row["way"] == way]) for way in WAYS]
            gaps = [gap([row for row in own if row["seed"] == seed]) for seed in seeds]
            promises = [np.mean([row[name] for row in own]) for name in ("promise", "promise_random")]
            print(
                f"{target:<20}"
                + "".join(f"{mean:>9.3f}" for mean in means)
                + f"{np.mean(gaps):>+9.3f} ({', '.join(f'{one:+.3f}' for one in gaps)})"
                + "".join(f"{one:>8.3f}" for one in promises)
            )
        for way in WAYS:
            own = [row for row in mine if row["way"] == way]
            flops, seconds = (np.mean([row[name] for row in own]) for name in ("flops", "seconds"))
            print(f"{way}: {flops:.2e} operations and {seconds:.1f} s a task, three rates")
    chosen_on = [row for row in rows if row["seed"] in CHOSEN_ON]
    grid = [(near, margin) for near in NEAR for margin in MARGIN]
    means = {point: np.mean([one for one, _ in regrets(chosen_on, *point)["advice"]]) for point in grid}
    near, margin = min(grid, key=lambda point: means[point])
    print(f"\nleast regret on seeds {list(CHOSEN_ON)}: near {near}, margin {margin}, {means[near, margin]:.4f}")
    equal = [point for point in grid if means[point] <= means[near, margin] + 1e-9]
    print(f"as good: {equal}")
    for labels in sorted({row["labels"] for row in rows}):
        mine = [row for row in rows if row["labels"] == labels and row["seed"] in REPORTED]
        for rule, pairs in regrets(mine, near, margin).items():
            regret, test = np.mean(pairs, axis=0)
            print(f"{labels} labels, {rule}: regret {regret:.4f}, accuracy {test:.3f}")


def drawn(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw tuned less frozen against the promise of the backbone."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for labels, mark in zip(sorted({row["labels"] for row in rows}), "os", strict=False):
        points = []
        for case in sorted({(row["seed"], row["target"]) for row in rows if row["seed"] in REPORTED}):
            own = [row for row in rows if (row["seed"], row["target"]) == case and row["labels"] == labels]
            if own:
                points.append((own[0]["promise"], gap(own)))
        axes.scatter(*zip(*points, strict=True), marker=mark, alpha=0.7, label=f"{labels} labels")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="promise of the backbone (linear probe)", ylabel="tuned − frozen, test accuracy")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        labels, *seeds = map(int, sys.argv[2:])
        for seed in seeds:
            (OUTPUT / f"adapt_{labels}_{seed}.json").write_text(json.dumps(measured(labels, seed)) + "\n")
        return
    rows = [row for file in sorted(OUTPUT.glob("adapt_*.json")) for row in json.loads(file.read_text())]
    told(rows)
    drawn(rows, Path(__file__).parents[1] / "docs" / "transfer_adapt.png")


if __name__ == "__main__":
    main()
