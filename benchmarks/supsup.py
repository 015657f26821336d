"""SupSup: what its defaults were chosen by, the random network against a pre-trained one, and inference of the task.

    PYTHONPATH=. python benchmarks/supsup.py [chosen | told | inferred] | tee benchmarks/output/supsup.txt

``chosen`` and ``inferred`` need no files; ``told`` needs MNIST under $CL_DATA_ROOT. Deviations are those of a sample.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import Any

import torch
from torch import Tensor

from cl_engine.core.state import bytes_by_part
from cl_engine.data.stream import Data
from cl_engine.experiment import Experiment
from cl_engine.testing.walking import after_each_task

UNTESTED = {"agenda.evaluate_every": 0, "agenda.curve_batches": 0}
DIGITS = {"stream.n": 5, **UNTESTED}
TOLD: dict[str, dict[str, Any]] = {
    "random network, head masked": {},
    "random network, head trained": {"heads": "trained"},
    "signs and biases of the pre-trained net": {"network": "backbone", "biases": "initial"},
}


def right(logits: Tensor, rows: Data) -> Tensor:
    """Return the accuracy of each seed."""
    return (logits.argmax(dim=-1) == rows.y).double().mean(dim=-1)


def shown(values: Tensor) -> str:
    """Return mean and sample deviation over seeds."""
    return f"{values.mean():.4f} ± {values.std():.4f}"


def chosen() -> None:
    """Compare magnitudes, biases and densities on validation rows."""
    print(
        "\npermuted_digits, 5 tasks, all told, seeds 0 to 4, a fifth of the training rows aside: accuracy on those rows"
    )
    for norm, density in product(["none", "batch"], [{"density": 0.1}, {"density": 0.3}, {"erdos_renyi": 4.0}]):
        for scale, biases in product(["kept_fan_in", "fan_in"], ["initial", "none"]):
            options = {
                **DIGITS,
                "stream.validation": 0.2,
                "net.norm": norm,
                **density,
                "scale": scale,
                "biases": biases,
            }
            *_, (stream, strategy) = after_each_task(Experiment.of("permuted_digits", "supsup", range(5), **options))
            asides = [stream[step].validation for step in range(5)]
            found = torch.stack([right(strategy.predict(rows.x, task), rows) for task, rows in enumerate(asides)])
            how = f"norm {norm:<6} {density!s:<22} scale {scale:<12} biases {biases:<8}"
            print(how, shown(found.mean(dim=0)), flush=True)


def told() -> None:
    """Test on MNIST's permutations, all tasks told."""
    print("\nmasks_permuted_mnist, 4 tasks, all told, seeds 0 to 2: accuracy, each task, bytes of one seed")
    for name, options in TOLD.items():
        experiment = Experiment.of("masks_permuted_mnist", "supsup", range(3), **UNTESTED, **options)
        *_, (stream, strategy) = after_each_task(experiment)
        tests = [stream.test(task) for task in range(4)]
        found = torch.stack([right(strategy.predict(rows.x, task), rows) for task, rows in enumerate(tests)])
        each = " ".join(f"{value:.3f}" for value in found.mean(dim=1))
        total = sum(bytes_by_part(strategy.state).values())
        print(f"{name:<40} {shown(found.mean(dim=0))}  {each}  {total:,}", flush=True)


def inferred() -> None:
    """Test where the task is not told, with rows in the order drawn for them, and class by class."""
    print("\npermuted_digits, 5 tasks, setting domain, seeds 0 to 4: accuracy where several rows decide together")
    options = {**DIGITS, "stream.setting": "domain"}
    *_, (stream, strategy) = after_each_task(Experiment.of("permuted_digits", "supsup", range(5), **options))
    for count in (1, 4, 16, 64):
        strategy.infer_rows = count  # type: ignore[attr-defined]
        for name, ordered in (("in a drawn order", Data.shuffled), ("class by class", lambda rows: rows)):
            tests = [ordered(stream.test(task)) for task in range(5)]
            found = torch.stack([right(strategy.predict(rows.x, None), rows) for rows in tests])
            print(f"infer_rows {count:<3} rows {name:<17} {shown(found.mean(dim=0))}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread; mean ± sample deviation over seeds")
    for part in sys.argv[1:] or ["chosen", "told", "inferred"]:
        {"chosen": chosen, "told": told, "inferred": inferred}[part]()


if __name__ == "__main__":
    main()
