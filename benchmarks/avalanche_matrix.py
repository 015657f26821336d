"""Avalanche's benchmarks with our strategies, and its strategies with our scenarios: the tables of docs/avalanche.md.

    PYTHONPATH=. python benchmarks/avalanche_matrix.py [ours | theirs [NAME …]] > benchmarks/output/avalanche_matrix.txt

Needs MNIST, Fashion-MNIST and CIFAR-10 under $CL_DATA_ROOT. Few rows and one seed: what it shows is what runs, and that
it learns; not how good anything is. Each cell is a run by ``Experiment.run``, as ``run.py run`` does it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cl_engine.errors import RunFailed, UsageError
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.scenario import Scenario

NET = {"name": "mlp", "hidden": [64]}
TRAIN = {"epochs": 3, "batch": 20, "optimizer": "adam", "lr": 0.001}
FEW = {"samples_per_class": 60, "test_samples_per_class": 30, "n_experiences": 5}
BENCHMARKS: dict[str, dict[str, Any]] = {
    "SplitMNIST": {},
    "PermutedMNIST": {},
    "RotatedMNIST": {},
    "SplitFMNIST": {},
    "SplitCIFAR10": {},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "piggyback": {"mask_lr": 0.003},
    "packnet": {"norm": "frozen"},
    "skill_recall": {"max_passes": 50},
    "mntdp": {"lrs": [0.001], "weight_decays": [0.0]},
    "compose": {"net.hidden": [64, 64, 64]},  # blocks are hidden layers of equal width
}
THEIRS: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Cumulative": {},
    "JointTraining": {},
    "FromScratchTraining": {},
    "EWC": {"ewc_lambda": 0.4},
    "SynapticIntelligence": {"si_lambda": 0.1},
    "MAS": {},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "LFL": {"lambda_e": 0.1},
    "Replay": {"mem_size": 100},
    "GEM": {"patterns_per_exp": 50},
    "AGEM": {"patterns_per_exp": 50, "sample_size": 50},
    "GSS_greedy": {"mem_size": 100, "input_size": [1, 28, 28]},
    "DER": {"mem_size": 100},
    "ER_ACE": {"mem_size": 100, "batch_size_mem": 20},
    "ER_AML": {"mem_size": 400, "batch_size_mem": 20},
    "MIR": {"mem_size": 100, "subsample": 50, "batch_size_mem": 20},
    "MER": {"mem_size": 100, "batch_size_mem": 20},
    "GDumb": {"mem_size": 100},
    "ICaRL": {"memory_size": 100, "fixed_memory": True},
    "CoPE": {"mem_size": 100, "p_size": 10, "n_classes": 10},
    "CWRStar": {"cwr_layer_name": "3"},
    "BiC": {"mem_size": 100},
    "FeatureReplay": {"mem_size": 100, "last_layer_name": "3", "batch_size_mem": 20},
    "PackNet": {"post_prune_epochs": 1, "prune_proportion": 0.5},
    "PNNStrategy": {},
    "SCR": {"mem_size": 100, "batch_size_mem": 20},
    "StreamingLDA": {"input_size": 64, "num_classes": 10},
    "GenerativeReplay": {},
    "AR1": {},
    "ExpertGateStrategy": {},
    "LearningToPrompt": {"model_name": "simpleMLP"},
    "AETraining": {},
    "VAETraining": {},
}


def scenario(benchmark: str, setting: str | None) -> Scenario:
    stream = {"name": "avalanche", "benchmark": benchmark, **FEW, **({"setting": setting} if setting else {})}
    tables = {"stream": stream, "net": NET, "train": TRAIN}
    if benchmark == "SplitCIFAR10":
        tables["net"] = {"name": "mlp", "hidden": [32]}
    return Scenario.of(benchmark, tables)


def measured(strategy: str, benchmark: str, setting: str | None, options: dict[str, Any]) -> str:
    """Run one cell; return its accuracy, forgetting and seconds, or the error in its own words."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        try:
            run = open_run(
                Experiment.of(scenario(benchmark, setting), strategy, (0,), **options).run(Path(folder) / "run")
            )
        except (UsageError, RunFailed) as error:
            return f"{type(error).__name__}: {error}"
        scores = [float(run.final[name].values[0]) for name in ("acc", "forgetting")]
        kilobytes = float(run.results.memory[-1].sum()) / 1000
    return (
        f"ACC {scores[0]:.3f}  forgetting {scores[1]:+.3f}  {kilobytes:9,.0f} kB  {time.perf_counter() - began:5.1f} s"
    )


def ours(names: list[str]) -> Iterator[str]:
    for benchmark in names or BENCHMARKS:
        for strategy in plugins.names("strategies"):
            settings = plugins.load("strategies", strategy).settings
            setting = "task" if settings == ("task",) else None
            cell = measured(strategy, benchmark, setting, OPTIONS.get(strategy, {}))
            yield f"{benchmark:14} {strategy:14} {setting or 'as recognised':14} {cell}"


def theirs(names: list[str]) -> Iterator[str]:
    for strategy in names or THEIRS:
        for setting in ("class", "task"):
            cell = measured(f"avalanche:{strategy}", "SplitMNIST", setting, THEIRS[strategy])
            yield f"{strategy:22} {setting:6} {cell}"


if __name__ == "__main__":
    halves = {"ours": ours, "theirs": theirs}
    for half in sys.argv[1:2] or halves:
        print(f"# {half}", flush=True)
        for line in halves[half](sys.argv[2:]):
            print(line, flush=True)
