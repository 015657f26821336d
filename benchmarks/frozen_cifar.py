"""Class-incremental CIFAR-10 over a net that has learned its other half: frozen features, adapters, and whole nets.

    PYTHONPATH=. nice python benchmarks/frozen_cifar.py FOLDER | tee benchmarks/output/frozen_cifar.txt

A LeNet learns classes 0 to 4 (ten passes; the same net for all seeds); then come classes 5 and 6, 7 and 8, and 9, all 5,000
images of each, five passes in batches of 64, Adam at 1e-3 (adapters at 3e-3). Settings `class` (no task is told) and `task`.
Seeds 0 to 2; ± is half a 95 % t interval; kB are what a seed holds at the end, the frozen net included. Options are defaults but
where it says so, none was chosen by these results. What is there in FOLDER is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.intervals import said
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

SEEDS = (0, 1, 2)
SAME: dict[str, Any] = {
    "stream.sources": [{"source": "cifar10", "classes": classes} for classes in ([5, 6], [7, 8], [9])],
    "stream.samples_per_class": None,
    "train.epochs": 5,
    "train.batch": 64,
}
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "finetune": ("finetune", {}),
    "head alone": ("head_only", {}),
    "lora, rank 4": ("lora", {"adapter_lr": 3e-3}),
    "scale and shift": ("patch", {"patch_lr": 3e-3}),
    "nearest_mean": ("nearest_mean", {}),
    "slda": ("slda", {}),
    "ranpac": ("ranpac", {}),
    "replay, 500 rows": ("replay", {"samples": 500}),
    "joint": ("joint", {}),
}


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    print(f"torch {torch.__version__}, seeds {SEEDS}, one thread; ± is half a 95 % t interval")
    for setting in ("class", "task"):
        print(f"\n{f'setting {setting}':<24}{'accuracy':>16}{'forgetting':>12}{'kB':>9}{'s a seed':>10}")
        for name, (strategy, options) in STRATEGIES.items():
            experiment = Experiment.of(
                "masks_few_cifar10", strategy, SEEDS, **{**SAME, "stream.setting": setting, **options}
            )
            path = experiment.run(folder / setting / name.replace(",", "").replace(" ", "_"), device="cpu")
            got = summarised(open_run(path))
            kept = sum((got.memory_parts or {}).values()) + sum(
                size for part, size in (got.memory_apart or {}).items() if part in ("backbone", "net")
            )
            print(
                f"{name:<24}{said(got.acc.values):>16}{got.forgetting.mean:>12.4f}{kept / 1e3:>9,.0f}"
                f"{got.seconds / len(SEEDS):>10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
