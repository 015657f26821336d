"""WSN and SPG beside PackNet, SupSup, Piggyback and HAT on permuted MNIST: a table of docs/masks.md.

    PYTHONPATH=. python benchmarks/mask_heirs.py | tee benchmarks/output/mask_heirs.txt

Ten permutations and the net of 784-100-100-10 with a head a task, as published for WSN; of each task a sixth of the images, two
passes and batches of 64, where there were five passes over nine tenths of them and batches of ten. Adam at 1e-3; plain SGD for
SPG and HAT, as they ask for. Seeds 0 to 2, side by side; needs MNIST under $CL_DATA_ROOT. Accuracy on all test rows after the
last task, over all tasks; bytes are those that the engine counts, part by part, of which `scores` and `importance` serve
learning alone.
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
from cl_engine.masks.events import MasksCoded

SEEDS = (0, 1, 2)
SAME: dict[str, Any] = {
    "net.hidden": [100, 100],
    "stream.samples_per_class": 1000,
    "train.batch": 64,
    "train.epochs": 2,
    "train.optimizer": "adam",
    "train.lr": 1e-3,
    "train.momentum": 0.0,
    "agenda.evaluate_ahead": 0,
}
SGD = {"train.optimizer": "sgd", "train.lr": 0.05}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "wsn, 10 % of the weights": ("wsn", {"keep": 0.1}),
    "wsn, 50 %": ("wsn", {"keep": 0.5}),
    "spg": ("spg", SGD),
    "packnet": ("packnet", {}),
    "supsup": ("supsup", {}),
    "piggyback, random net": ("piggyback", {"net.init": "kaiming"}),
    "hat": ("hat", SGD),
    "lora, rank 4, random net": ("lora", {}),
    "independent": ("independent", {}),
    "fine-tuning, one net": ("finetune", {}),
}


def measure(strategy: str, options: dict[str, Any]) -> str:
    """Run a strategy and return a row: accuracy, forgetting, bytes of one seed, bits of a mask, seconds."""
    experiment = Experiment.of("permuted_mnist", strategy, SEEDS, **{**SAME, **options})
    stream = experiment.stream()
    tasks = int(stream.n_tasks or 0)
    accuracy, forgetting, first = np.full((tasks, len(SEEDS)), np.nan), 0.0, 0
    memory: dict[str, int] = {}
    coded = ""
    began = time.process_time()
    for event in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        for cell in cells(event):
            if cell.step == tasks - 1:
                accuracy[cell.task_id] = np.array(cell.n_correct) / cell.n_total
        match event:
            case Scored():
                forgetting = float(np.mean(event.forgetting))
            case TaskLearned():
                memory = dict(event.memory)
                first = first or sum(memory.values())
            case MasksCoded():
                coded = f"{event.bits:.2f}, in use {100 * float(np.mean(event.used)):.0f} %"
    a_task = (sum(memory.values()) - first) / (tasks - 1)
    parts = ", ".join(f"{part} {size / 1e3:.0f}" for part, size in memory.items())
    shown = mean_and_deviation(accuracy.mean(axis=0), 4)
    ends = f"{accuracy[0].mean():.3f} {accuracy[-1].mean():.3f}"
    seconds = time.process_time() - began
    return f"{shown}  {ends}  {forgetting:+.4f} {a_task / 1e3:>9.1f} {seconds:>6.0f}  {coded:<18} {parts}"


def main() -> None:
    torch.set_num_threads(1)
    asked = sys.argv[1:]
    print(
        f"torch {torch.__version__}, seeds {SEEDS}, one thread; ± is of a population (ddof 0); sizes in kB of one seed"
    )
    head = f"{'':<26}{'mean ± sd':>15}  {'first, last':<11}  {'forgets':>7} {'a task':>9} {'CPU s':>6}"
    print(f"{head}  {'bits a weight':<18} kept after the last")
    for name, (strategy, options) in ROWS.items():
        if not asked or strategy in asked:
            print(f"{name:<26}{measure(strategy, options)}", flush=True)


if __name__ == "__main__":
    main()
