"""CTrL's streams: the tables of docs/modules.md.

    PYTHONPATH=. python benchmarks/modules.py local | tee benchmarks/output/modules_local.txt
    PYTHONPATH=. python benchmarks/modules.py published [STREAM …] | tee benchmarks/output/modules_published.txt
    PYTHONPATH=. python benchmarks/modules.py long | tee benchmarks/output/modules_long.txt

``local`` runs the five `ctrl_…_local` scenarios, five seeds. ``long`` runs a hundred tasks of `ctrl_s_long_local` and of
`endless_compositional`, one seed. ``published`` runs CTrL's own sizes on 32 × 32 images with
the four convolutions of 64 maps that re-implementations of MNTDP use, one seed and few passes, with stand-ins for SVHN and
DTD. Both need MNIST, Fashion-MNIST and CIFAR-10 under $CL_DATA_ROOT. `independent`, `experts` and `mntdp` choose rate, decay
and epoch on the same validation rows; `finetune` and `mntdp_s` have the scenario's rate. ± is the sample deviation over seeds.
Transfer, LCA@5 and operations are as in reports; see `cl_engine.analysis.scores.run_scores`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from cl_engine.analysis.scores.run_scores import Score, Summary, summarised
from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from cl_engine.runs.scenario import Scenario

SHORT = ("s_minus", "s_plus", "s_in", "s_out", "s_pl")
STRATEGIES = ("finetune", "independent", "experts", "mntdp", "mntdp_s")
LONG = ("finetune", "independent", "mntdp")
PUBLISHED: dict[str, Any] = {
    "stream.stand_ins": {"svhn": "digits", "dtd": "mnist1d_images"},
    "net.name": "small_cnn",
    "train.epochs": 8,
    "train.batch": 64,
    "train.lr": 1e-3,
    "train.crop": 0,  # augmentation pays in long training; this is short
    "train.flip": 0.0,
}
SEARCH = {"lrs": [1e-3], "weight_decays": [0.0]}  # one setting, and the best epoch: for all that choose


def table(
    title: str, scenario: str | Scenario, strategies: tuple[str, ...], seeds: tuple[int, ...], **extra: Any
) -> None:
    """Run strategies on one stream and print a row for each."""
    print(
        f"\n{title}\n{'':<13}{'A':>14}{'F':>9}{'T':>16}{'LCA@5':>8}{'memory':>11}{'train TFLOP':>13}{'s':>6}  "
        "chosen for the last task"
    )
    with TemporaryDirectory() as folder:
        runs: list[Run] = []
        for strategy in strategies:
            options = {**extra, **(SEARCH if extra and strategy in ("independent", "experts", "mntdp") else {})}
            began = time.perf_counter()
            path = Experiment.of(scenario, strategy, seeds, **options).run(Path(folder) / strategy, device="cpu")
            runs.append(open_run(path))
            print(_row(strategy, summarised(runs[-1], runs), time.perf_counter() - began), flush=True)


def _row(strategy: str, summary: Summary, seconds: float) -> str:
    return (
        f"{strategy:<13}{_pm(summary.acc)}{summary.forgetting.mean:>9.4f}  {_pm(summary.transfer_last)}"
        f"{summary.lca.mean:>8.3f}{summary.memory:>11,.0f}{summary.training_flops / 1e12:>13.4f}{seconds:>6.0f}"
        f"  {_chosen(summary.run)}"
    )


def _pm(score: Score) -> str:
    return f"{mean_and_deviation(score.values):>15}" if np.isfinite(score.mean) else f"{'':>15}"


def _chosen(run: Run) -> str:
    """Return what the last task's path reuses, seed by seed: source and number of modules."""
    events = run.table("events")
    last = events[(events["kind"] == "PathChosen") & (events["step"] == events["step"].max())]
    if last.empty:
        return ""
    wide = last[last["seed"] >= 0].pivot(index="seed", columns="name", values="value")
    return ", ".join(f"T{row.source + 1:.0f}: {row.reused:.0f}" for row in wide.itertuples())


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    what, *streams = sys.argv[1:] or ["local"]
    if what == "long":
        for scenario in ("ctrl_s_long_local", "endless_compositional"):
            table(f"{scenario}, a hundred tasks, seed 0", scenario, LONG, (0,), **{"stream.n": 100})
        return
    for kind in streams or SHORT:
        if what == "local":
            table(f"ctrl_{kind}_local, seeds 0 to 4", f"ctrl_{kind}_local", STRATEGIES, (0, 1, 2, 3, 4))
        else:
            title = f"ctrl_{kind}, published sizes, four convolutions of 64 maps, {PUBLISHED['train.epochs']} passes, seed 0"
            table(title, f"ctrl_{kind}", ("finetune", "independent", "mntdp"), (0,), **PUBLISHED)


if __name__ == "__main__":
    main()
