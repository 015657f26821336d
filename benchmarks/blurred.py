"""Online CIFAR-10 with blurred boundaries, and with none told: a table of docs/online.md.

    PYTHONPATH=. nice python benchmarks/blurred.py FOLDER [PART …] | tee benchmarks/output/blurred.txt

PART is `blurred` or `sharp`; both, if none is named. As in i-Blurry (Koh et al. 2022) and Si-Blurry (Moon et al. 2023): five
tasks, half of the classes disjoint, a tenth of the others' rows blurred; all 50,000 images, sixteen at a time and each once, a
memory of 500, Adam at 3e-4. Not as there: a LeNet (ResNet-18), two classes a task (drawn), one step an arrival, images as they
are (augmented). Learners are told no boundary (`stream.boundaries = false`) but where it says so. Seeds 0 to 2, which fix nets
and batches; the stream is one. `any time` is the mean over evaluations, one every 2,000 images, of the accuracy on all classes
met (A_AUC); `last` is that of the end. ± is half a 95 % t interval; kB are what a seed holds at the end. What is there in
FOLDER is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.intervals import said
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

SEEDS = (0, 1, 2)
SAME: dict[str, Any] = {
    "stream.setting": "class",
    "stream.pieces": 16,
    "stream.stretch": 125,
    "stream.blurry": 0.1,
    "stream.blurry_by": "share",
    "stream.blurry_disjoint": 0.5,
    "net.name": "lenet",
    "train.batch": 16,
    "train.optimizer": "adam",
    "train.lr": 3e-4,
    "train.momentum": 0.0,
    "train.keep_optimizer": True,
    "agenda.evaluate_ahead": 0,
    "agenda.online": True,
}
MEMORY: dict[str, Any] = {"samples": 500}
STRATEGIES: dict[str, dict[str, Any]] = {
    "finetune": {},
    "replay": MEMORY,
    "er_ace": MEMORY,
    "der": MEMORY,
    "agem": MEMORY,
    "gdumb": MEMORY,
}
STREAMS: dict[str, dict[str, Any]] = {
    "blurred, no boundary told": {"stream.boundaries": False},
    "sharp, boundaries told": {"stream.blurry": 0.0, "stream.blurry_disjoint": 0.0},
}


def main() -> None:
    torch.set_num_threads(1)
    folder, parts = Path(sys.argv[1]), sys.argv[2:]
    print(f"torch {torch.__version__}, seeds {SEEDS}, one thread; ± is half a 95 % t interval")
    for stream, changes in STREAMS.items():
        part = stream.split(",")[0]
        if parts and part not in parts:
            continue
        head = f"{'any time':>16}{'last':>16}{'online':>16}{'kB':>8}"
        print(f"\n{stream:<28}{head}")
        for strategy, options in STRATEGIES.items():
            experiment = Experiment.of("split_cifar10", strategy, SEEDS, **{**SAME, **changes, **options})
            path = experiment.run(folder / part / strategy, device="cpu")
            run = open_run(path)
            got = summarised(run)
            met = run.results["score"].values  # [evaluation, task, seed]
            any_time = np.nanmean(np.nanmean(met, axis=1), axis=0)
            print(
                f"{strategy:<28}{said(any_time):>16}{said(got.acc.values):>16}{said(got.online_accuracy.values):>16}"
                f"{got.memory / 1e3:>8,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
