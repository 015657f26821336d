"""Masks, gates and patches against whole nets: the tables of docs/masks.md.

    PYTHONPATH=. python benchmarks/masks.py [permuted | few] | tee benchmarks/output/masks.txt
    PYTHONPATH=. python benchmarks/masks.py rotated | tee benchmarks/output/masks_rotated.txt

Three seeds; needs MNIST (permuted, rotated) or CIFAR-10 (few) under $CL_DATA_ROOT. Accuracy after the last task, over all
tasks.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch

from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Scored, TaskLearned, cells
from cl_engine.experiment import Experiment
from cl_engine.runs.scenario import Scenario

RATE, EXACT = {"mask_lr": 1e-4}, {"gradient": "exact", "clip": None}
START = {"prune": [0.5, 0.75], "backbone": "overwritten"}
PERMUTED: dict[str, tuple[str, dict[str, Any]]] = {
    "head only": ("head_only", {}),
    "patch and head": ("patch", {}),
    "Piggyback, BatchNorm frozen": ("piggyback", RATE),
    "Piggyback, ternary as released": ("piggyback", {**RATE, "mask": "ternary"}),
    "Piggyback, ternary symmetric": ("piggyback", {**RATE, "mask": "ternary_symmetric"}),
    "Piggyback, own statistics": ("piggyback", {**RATE, "norm": "statistics"}),
    "Piggyback, own statistics, scale, shift": ("piggyback", {**RATE, "norm": "affine"}),
    "whole net fine-tuned for each task": ("independent", {}),
    "PackNet, BatchNorm frozen": ("packnet", {**START, "norm": "frozen"}),
    "PackNet, BatchNorm of its own": ("packnet", {**START, "norm": "affine"}),
    "HAT, BatchNorm of its own": ("hat", EXACT),
    "HAT, BatchNorm frozen": ("hat", {**EXACT, "norm": "frozen"}),
    "HAT, BatchNorm frozen, penalty .1": ("hat", {**EXACT, "norm": "frozen", "sparsity": 0.1}),
    "fine-tuning, one net": ("finetune", {}),
}
FEW: dict[str, tuple[str, dict[str, Any]]] = {
    "head only": ("head_only", {}),
    "Piggyback": ("piggyback", RATE),
    "whole net fine-tuned for each task": ("independent", {}),
}


def measure(scenario: Scenario | str, strategy: str, options: dict[str, Any]) -> str:
    """Run a strategy and return a row: accuracy, that of each task, forgetting, bytes, seconds."""
    experiment = Experiment.of(scenario, strategy, (0, 1, 2), **{**options})
    stream = experiment.stream()
    tasks = int(stream.n_tasks or 0)
    accuracy, forgetting, memory = np.full((tasks, 3), np.nan), 0.0, 0
    began = time.process_time()
    for event in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        for cell in cells(event):
            if cell.step == tasks - 1:
                accuracy[cell.task_id] = np.array(cell.n_correct) / cell.n_total
        match event:
            case Scored() if event.step == tasks - 1:
                forgetting = float(np.mean(event.forgetting))
            case TaskLearned():
                memory = sum(event.memory.values())
    each = " ".join(f"{value:.3f}" for value in accuracy.mean(axis=1))
    shown = mean_and_deviation(accuracy.mean(axis=0), 4)
    return f"{shown}  {each}  {forgetting:+.4f} {memory:>11,} {time.process_time() - began:6.0f}"


def without_backbone(name: str) -> Scenario:
    """Return a scenario whose nets start at random."""
    found = Scenario.load(name)
    return Scenario.of(f"{name}, random", {key: table for key, table in found.tables.items() if key != "backbone"})


def table(scenario: Scenario | str, rows: dict[str, tuple[str, dict[str, Any]]], title: str) -> None:
    """Print a row for each strategy."""
    print(f"\n{title}\n{'':<42}{'mean ± sd':>15}  each task                forgetting  bytes a seed  CPU s")
    for name, (strategy, options) in rows.items():
        print(f"{name:<42}{measure(scenario, strategy, options)}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    asked = sys.argv[1:] or ["permuted", "few"]
    print(f"torch {torch.__version__}, seeds 0 to 2, one thread")
    if "permuted" in asked:
        table("masks_permuted_mnist", PERMUTED, "masks_permuted_mnist: four tasks, 100 images a class")
    if "rotated" in asked:
        table("masks_rotated_mnist", PERMUTED, "masks_rotated_mnist: four tasks, 100 images a class")
    if "few" in asked:
        table("masks_few_cifar10", FEW, "masks_few_cifar10: four tasks, 20 images a class, pre-trained")
        table(without_backbone("masks_few_cifar10"), FEW, "the same, from random nets")


if __name__ == "__main__":
    main()
