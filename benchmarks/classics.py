"""Classic strategies beside Avalanche's of the same name: accuracies and time, the tables of docs/baselines.md.

    PYTHONPATH=. python benchmarks/classics.py [NAME …] | tee benchmarks/output/classics.txt

MNIST in five tasks of two digits, the task told and not told: the same net, first weights, rows, batches, optimiser and options,
five seeds; needs MNIST under $CL_DATA_ROOT. ACC is the mean accuracy on all tasks after the last, ± the 95 % t interval over
seeds; the difference is taken seed by seed. Seconds are those of the processor, for all five seeds from the first step to the
test, on one thread. Where the loss of Avalanche's is another by a factor, rates of learning or strengths make up for it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from cl_engine.errors import RunFailed, UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario

SEEDS = (0, 1, 2, 3, 4)
EVERY = 10**6  # all rows of a task
BATCH = 32
# by Avalanche's name: what it is called here, its options there, and those here
PAIRS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Naive": ("finetune", {}, {}),
    "EWC": (
        "ewc",
        {"ewc_lambda": 100.0},
        {"strength": 200.0, "fisher": "labels", "fisher_rows": EVERY, "fisher_batch": BATCH},
    ),
    "SynapticIntelligence": ("si", {"si_lambda": 1e4}, {"strength": 5e3, "xi": 1e-7, "limit": 0.001}),
    "MAS": (
        "mas",
        {"lambda_reg": 1.0, "alpha": 0.5},
        {"average": 0.5, "importance_rows": EVERY, "importance_batch": BATCH},
    ),
    "LwF": ("lwf", {"alpha": 1.0, "temperature": 2.0}, {}),
    "Replay": ("replay", {"mem_size": 200}, {"samples": 200, "selection": "balanced"}),
    "AGEM": ("agem", {"patterns_per_exp": 40, "sample_size": BATCH}, {"samples": 200, "selection": "balanced"}),
    "ER_ACE": (
        "er_ace",
        {"mem_size": 200, "batch_size_mem": BATCH},
        {"samples": 200, "selection": "balanced", "train.lr": 0.025},
    ),
    "DER": (
        "der",
        {"mem_size": 200, "alpha": 0.1, "beta": 0.5},
        {"samples": 200, "selection": "balanced", "alpha": 0.1, "beta": 0.5},
    ),
    "GDumb": ("gdumb", {"mem_size": 200}, {"samples": 200}),
    "ICaRL": ("icarl", {"memory_size": 200, "fixed_memory": True}, {"samples": 200}),
}
TRAIN = {"GDumb": {"train.epochs": 20}, "ICaRL": {"train.lr": 0.5}}  # of both
ONLY_CLASS = ("DER", "ICaRL")  # Avalanche's do not take several heads


def scenario(setting: str) -> Scenario:
    tables = {
        "stream": {"name": "split", "source": "mnist", "setting": setting, "n": 5},
        "net": {"name": "mlp", "hidden": [100]},
        "train": {"epochs": 3, "batch": BATCH, "optimizer": "sgd", "lr": 0.05},
        "agenda": {"evaluate_every": 5, "evaluate_ahead": 0},
    }
    tables["stream"] |= {"samples_per_class": 200, "test_samples_per_class": 200}
    return Scenario.of(f"split_mnist_{setting}", tables)


def measured(strategy: str, setting: str, options: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Run a strategy; return the final accuracy of each seed, and seconds of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        experiment, began = Experiment.of(scenario(setting), strategy, SEEDS, **options), time.process_time()
        run = open_run(experiment.run(Path(folder) / "run", device="cpu"))
        return np.asarray(run.final.acc.values), time.process_time() - began


def interval(values: np.ndarray) -> str:
    """Return mean and half of the 95 % t interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} ± {half:.3f}".lstrip("+")


def main() -> None:
    torch.set_num_threads(1)
    measured("finetune", "task", {})  # reads the data, and imports what that takes
    measured("avalanche:Naive", "task", {})
    print(f"torch {torch.__version__}, seeds {', '.join(map(str, SEEDS))}, one thread")
    print(f"{'':21} {'':6}{'here':>16}{'Avalanche':>16}{'difference':>17}{'here, s':>9}{'there, s':>9}")
    for name in sys.argv[1:] or PAIRS:
        strategy, theirs, ours = PAIRS[name]
        for setting in ("task", "class"):
            if setting == "task" and name in ONLY_CLASS:
                continue
            both = TRAIN.get(name, {})
            try:
                here, seconds = measured(strategy, setting, {**both, **ours})
                there, longer = measured(f"avalanche:{name}", setting, {**both, **theirs})
            except (UsageError, RunFailed) as error:
                print(f"{name:21} {setting:6} {error}", flush=True)
                continue
            cells = "".join(f"{interval(own):>16}" for own in (here, there))
            print(f"{name:21} {setting:6}{cells}{interval(here - there):>17}{seconds:9.1f}{longer:9.1f}", flush=True)


if __name__ == "__main__":
    main()
