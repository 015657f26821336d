"""SupSup's scale, biases and densities, compared on validation rows.

    PYTHONPATH=. python benchmarks/supsup_defaults.py | tee benchmarks/output/supsup_defaults.txt

A fifth of the training rows is set aside; accuracy there after the last task, all tasks told, five seeds.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch

from cl_engine.experiment import Experiment
from cl_engine.testing.walking import after_each_task

SCENARIO = {"stream.n": 5, "stream.validation": 0.2, "agenda.evaluate_every": 0, "agenda.curve_batches": 0}


def accuracy(options: dict[str, Any]) -> torch.Tensor:
    """Return the accuracy of each seed on validation rows of all tasks."""
    *_, (stream, strategy) = after_each_task(Experiment.of("permuted_digits", "supsup", range(5), **options))
    found = []
    for step in range(5):
        rows = stream[step].validation
        found.append((strategy.predict(rows.x, step).argmax(dim=-1) == rows.y).double().mean(dim=1))
    return torch.stack(found).mean(dim=0)


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, permuted_digits, 5 tasks, seeds 0 to 4: mean ± sample deviation on validation rows"
    )
    for norm, density in product(["none", "batch"], [{"density": 0.1}, {"density": 0.3}, {"erdos_renyi": 4.0}]):
        for scale, biases in product(["kept_fan_in", "fan_in"], ["initial", "none"]):
            found = accuracy({**SCENARIO, "net.norm": norm, **density, "scale": scale, "biases": biases})
            how = f"norm {norm:<6} {density!s:<22} scale {scale:<12} biases {biases:<8}"
            print(f"{how} {found.mean():.4f} ± {found.std():.4f}", flush=True)


if __name__ == "__main__":
    main()
