"""Classic strategies beside Avalanche's of the same name: accuracies and time, the tables of docs/baselines.md.

    PYTHONPATH=. python benchmarks/classics.py [NAME …] | tee benchmarks/output/classics.txt

MNIST in five tasks of two digits, the task told and not told: the same net, rows, batches, optimiser and options, five seeds;
needs MNIST under $CL_DATA_ROOT. ACC is the mean accuracy on all tasks after the last, ± the 95 % t interval over seeds; the
difference is taken seed by seed. Seconds are those of the processor, for all five seeds, tests and all, on one thread. Where
the loss of Avalanche's is another by a factor, rates of learning or strengths make up for it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats

from cl_engine.errors import RunFailed, UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario

SEEDS = (0, 1, 2, 3, 4)
EVERY = 10**6  # all rows of a task
BATCH = 25
# by Avalanche's name: what it is called here, its options there, and those here
PAIRS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Naive": ("finetune", {}, {}),
    "EWC": (
        "ewc",
        {"ewc_lambda": 500.0},
        {"strength": 1000.0, "fisher": "labels", "fisher_rows": EVERY, "fisher_batch": BATCH},
    ),
    "EWC, a tenth of the strength": (
        "ewc",
        {"ewc_lambda": 50.0},
        {"strength": 100.0, "fisher": "labels", "fisher_rows": EVERY, "fisher_batch": BATCH},
    ),
    "SynapticIntelligence": ("si", {"si_lambda": 1e3}, {"strength": 500.0, "xi": 1e-7, "limit": 0.001}),
    "MAS": (
        "mas",
        {"lambda_reg": 0.1, "alpha": 0.5},
        {"strength": 0.1, "average": 0.5, "importance_rows": EVERY, "importance_batch": BATCH},
    ),
    "LwF": ("lwf", {"alpha": 1.0, "temperature": 2.0}, {}),
    "Replay": ("replay", {"mem_size": 200}, {"samples": 200, "selection": "balanced"}),
    "AGEM": ("agem", {"patterns_per_exp": 40, "sample_size": BATCH}, {"samples": 200, "selection": "balanced"}),
    "ER_ACE": (
        "er_ace",
        {"mem_size": 200, "batch_size_mem": BATCH},
        {"samples": 200, "selection": "balanced", "train.lr": 0.05},
    ),
    "ER_ACE, here in pieces": (
        "er_ace",
        {"mem_size": 200, "batch_size_mem": BATCH},
        {"samples": 200, "selection": "balanced", "train.lr": 0.05, "stream.pieces": BATCH},
    ),
    "DER": (
        "der",
        {"mem_size": 200, "alpha": 0.1, "beta": 0.5},
        {"samples": 200, "selection": "balanced", "alpha": 0.1, "beta": 0.5},
    ),
    "GDumb": ("gdumb", {"mem_size": 200}, {"samples": 200}),
    "ICaRL": ("icarl", {"memory_size": 200, "fixed_memory": True}, {"samples": 200}),
    "SynapticIntelligence, weights copied": (
        "si",
        {"si_lambda": 1e3},
        {"strength": 500.0, "xi": 1e-7, "limit": 0.001},
    ),
}
TRAIN = {"GDumb": {"train.epochs": 20}, "ICaRL": {"train.lr": 0.5}}  # of both
ONLY_CLASS = ("DER", "ICaRL")  # Avalanche's do not take several heads
REHEARSING = (
    "Replay",
    "AGEM",
    "ER_ACE",
    "DER",
    "GDumb",
    "ICaRL",
)  # where labels are shared, the others are told apart best
COPIED = ", weights copied"


def scenario(setting: str) -> Scenario:
    tables = {
        "stream": {"name": "split", "source": "mnist", "setting": setting, "n": 5},
        "net": {"name": "mlp", "hidden": [100]},
        "train": {"epochs": 2, "batch": BATCH, "optimizer": "sgd", "lr": 0.1},
        "agenda": {"evaluate_every": 5, "evaluate_ahead": 0},
    }
    tables["stream"] |= {"samples_per_class": 100, "test_samples_per_class": 100}
    return Scenario.of(f"split_mnist_{setting}", tables)


def measured(strategy: str, setting: str, options: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Run a strategy; return the final accuracy of each seed, and seconds of the processor."""
    with tempfile.TemporaryDirectory() as folder:
        experiment, began = Experiment.of(scenario(setting), strategy, SEEDS, **options), time.process_time()
        run = open_run(experiment.run(Path(folder) / "run", device="cpu"))
        return np.asarray(run.final.acc.values), time.process_time() - began


@contextmanager
def weights_copied() -> Iterator[None]:
    """Let Avalanche's SI copy weights before a step; on a CPU it holds the weights themselves, and finds that none has moved."""
    from avalanche.training.plugins.synaptic_intelligence import SynapticIntelligencePlugin as Plugin

    @torch.no_grad()
    def extract(model: Any, target: Any, excluded: set[str]) -> None:
        for name, weight in Plugin.allowed_parameters(model, excluded):
            target[name].data = weight.detach().cpu().flatten().clone()

    with patch.object(Plugin, "extract_weights", staticmethod(extract)):
        yield


def interval(values: np.ndarray) -> str:
    """Return mean and half of the 95 % t interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} ± {half:.3f}".lstrip("+")


def compared(name: str, setting: str) -> str:
    """Return a row of the table: one strategy of both in one setting."""
    strategy, theirs, ours = PAIRS[name]
    both = TRAIN.get(name, {})
    heads = {"train.task_heads": "drawn"} if setting == "task" else {}  # as Avalanche's are
    try:
        here, seconds = measured(strategy, setting, {**both, **heads, **ours})
        with weights_copied() if name.endswith(COPIED) else nullcontext():
            there, longer = measured(f"avalanche:{name.partition(',')[0]}", setting, {**both, **theirs})
    except (UsageError, RunFailed) as error:
        return f"{name:36} {setting:6} {error}"
    cells = "".join(f"{interval(own):>16}" for own in (here, there))
    return f"{name:36} {setting:6}{cells}{interval(here - there):>17}{seconds:9.1f}{longer:9.1f}"


def main() -> None:
    torch.set_num_threads(1)
    measured("finetune", "domain", {})  # reads the data, and imports what that takes
    measured("avalanche:Naive", "domain", {})
    print(f"torch {torch.__version__}, seeds {', '.join(map(str, SEEDS))}, one thread")
    print(f"{'':36} {'':6}{'here':>16}{'Avalanche':>16}{'difference':>17}{'here, s':>9}{'there, s':>9}")
    left_out = {"domain": REHEARSING, "class": (), "task": ONLY_CLASS}
    for setting, without in left_out.items():
        for name in sys.argv[1:] or PAIRS:
            if name not in without:
                print(compared(name, setting), flush=True)


if __name__ == "__main__":
    main()
