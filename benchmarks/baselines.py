"""Six strategies on ten permutations of MNIST: the table of docs/baselines.md.

    PYTHONPATH=. python benchmarks/baselines.py | tee benchmarks/output/baselines.txt

Seeds 0 to 2, the scenario `permuted_mnist` as it stands; needs MNIST under $CL_DATA_ROOT. ± is the sample standard deviation over
seeds (n − 1).
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cl_engine.analysis.scores.run_scores import Score, summarised
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

STRATEGIES = ("finetune", "head_only", "replay", "piggyback", "independent", "joint")
SEEDS = (0, 1, 2)


def row(strategy: str, folder: Path) -> str:
    """Run a strategy and return its scores, the bytes one seed holds, counted and apart, and seconds of all seeds."""
    began = time.perf_counter()
    found = summarised(open_run(Experiment.of("permuted_mnist", strategy, SEEDS).run(folder, device="cpu")))
    scores = "".join(f"{pm(score):>19}" for score in (found.acc, found.bwt, found.forgetting, found.fwt))
    apart = sum((found.memory_apart or {}).values())
    return f"{strategy:<12}{scores} {found.memory:>12,.0f} {apart:>10,} {time.perf_counter() - began:>6.0f}"


def pm(score: Score) -> str:
    """Return mean and sample standard deviation over seeds."""
    return f"{score.mean:.4f} ± {score.values.std(ddof=1):.4f}"


def main() -> None:
    torch.set_num_threads(1)
    heads = "".join(f"{name:>19}" for name in ("ACC", "BWT", "forgetting", "FWT"))
    print(f"torch {torch.__version__}, permuted_mnist, seeds {', '.join(map(str, SEEDS))}")
    print(f"{'':<12}{heads} {'bytes a seed':>12} {'apart':>10} {'s':>6}")
    with TemporaryDirectory() as folder:
        for strategy in STRATEGIES:
            print(row(strategy, Path(folder) / strategy), flush=True)


if __name__ == "__main__":
    main()
