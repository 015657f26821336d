"""To tune or not to tune: five targets ever further from the backbone, each way of learning them, and what advice is worth.

python benchmarks/adapt.py measure 0 1 2 3 4    # every way on its own, by seed: benchmarks/output/adapt_SEED.json
python benchmarks/adapt.py                      # tables and picture from those files
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

OUTPUT = Path(__file__).parent / "output"
LABELS = (100, 2000)
CLASSES = 5
WAYS: dict[str, dict[str, Any]] = {
    "linear": {"choose": "extract", "head": "linear"},
    "mlp": {"choose": "extract"},
    "tuned": {"choose": "tune"},
    "scratch": {"choose": "scratch"},
}
TARGETS = ("same", "digits 5-9", "turned", "quadrants swapped", "pixels permuted")
CHOSEN_ON, REPORTED = (0, 1), (2, 3, 4)  # seeds


def measured(seed: int) -> list[dict[str, Any]]:
    """Return what each way came to on each target, of one seed of learners and of the stream."""
    rows = []
    for labels in LABELS:
        for way, options in WAYS.items():
            changes = {"stream.samples_per_class": labels // CLASSES, "stream.seed": seed, **options}
            experiment = Experiment.of("adapt_mnist", "adapt", (seed,), **changes)
            with tempfile.TemporaryDirectory() as folder:
                run = open_run(experiment.run(folder, device="cpu"))
                events, scores = run.table("events"), run.results["accuracy"].sel(seed=seed).values
                experience = run.table("experiences")
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
            del experience
            print(seed, labels, way, [f"{row['test']:.3f}" for row in rows[-len(TARGETS) :]], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        for seed in map(int, sys.argv[2:]):
            (OUTPUT / f"adapt_{seed}.json").write_text(json.dumps(measured(seed)) + "\n")


if __name__ == "__main__":
    main()
