"""The three families and their heirs on two streams of a hundred tasks: a table of docs/families.md, and a report.

    PYTHONPATH=. nice python benchmarks/families.py run FOLDER [NAME …]       # goes on with runs that are there
    PYTHONPATH=. python benchmarks/families.py FOLDER | tee benchmarks/output/families.txt

`permuted`: a hundred permutations of MNIST, a hundred images a class, an MLP 784-100-100-10, ten passes of Adam at 1e-3. `long`:
`ctrl_s_long_local`, CTrL's S-long on what is at hand: a hundred tasks of five classes from five sources, five images a class for
most. Seeds 0 to 2, the task told, one thread. Options are each strategy's defaults, or the scenario's, but for what a row's name
says; none was chosen by these results. `transfer` is the mean over tasks of a task's accuracy when learned less that of
`independent`; bytes are of one seed, in all and what the last half of the tasks added each; seconds a task are those of the run,
learning, testing and saving, with whatever else the machine did.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.scores.run_scores import Score, summarised
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run

SEEDS = (0, 1, 2)
PERMUTED: dict[str, Any] = {
    "stream.n": 100,
    "stream.samples_per_class": 100,
    "stream.test_samples_per_class": 100,
    "stream.validation": 0.2,
    "net.hidden": [100, 100],
    "train.epochs": 10,
    "train.batch": 32,
    "train.optimizer": "adam",
    "train.lr": 1e-3,
    "train.momentum": 0.0,
    "agenda.evaluate_ahead": 0,
    "agenda.evaluate_every": 25,
}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "permuted": ("permuted_mnist", PERMUTED),
    "long": ("ctrl_s_long_local", {"agenda.evaluate_every": 25}),
}
FIRST = {"backbone": "first_task"}
# a name: family, strategy, options
ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "independent": ("", "independent", {}),
    "finetune": ("", "finetune", {}),
    "skill_recall, autoencoders": ("recall", "skill_recall", {}),
    "skill_recall, 5 bits": ("recall", "skill_recall", {"codec": "quantised"}),
    "skill_recall of lora, 5 bits": ("recall", "skill_recall", {"codec": "quantised", "what": "lora", **FIRST}),
    "hypernet": ("recall", "hypernet", {}),
    "piggyback, random net": ("masks", "piggyback", {"net.init": "kaiming"}),
    "piggyback, first task's net": ("masks", "piggyback", FIRST),
    "packnet": ("masks", "packnet", {}),
    "supsup": ("masks", "supsup", {}),
    "hat": ("masks", "hat", {"train.optimizer": "sgd", "train.lr": 0.05}),
    "wsn": ("masks", "wsn", {}),
    "lora, first task's net": ("adapters", "lora", FIRST),
    "patch, first task's net": ("adapters", "patch", FIRST),
    "experts": ("modules", "experts", {}),
    "compose": ("modules", "compose", {}),
    "mntdp": ("modules", "mntdp", {}),
    "picle": ("modules", "picle", {}),
}


def folder_of(folder: Path, stream: str, name: str) -> Path:
    return folder / stream / name.replace(",", "").replace("'", "").replace(" ", "_")


def run(folder: Path, names: list[str]) -> None:
    """Run the rows, on both streams, that have not finished."""
    for name in names or ROWS:
        _, strategy, options = ROWS[name]
        for stream, (scenario, changes) in STREAMS.items():
            experiment = Experiment.of(scenario, strategy, SEEDS, **{**changes, **options})
            experiment.run(folder_of(folder, stream, name), device="cpu")
            print(stream, name, "done", flush=True)


def table(folder: Path) -> None:
    """Print a row of each finished run, and write a report of all."""
    print(f"torch {torch.__version__}, seeds {SEEDS}, one thread; ± is half a 95 % t interval")
    every: list[Run] = []
    for stream in STREAMS:
        paths = {name: folder_of(folder, stream, name) for name in ROWS}
        logs = {name: path for name, path in paths.items() if (path / "log.h5").exists()}
        runs = {name: found for name, path in logs.items() if (found := open_run(path)).status == "finished"}
        every += runs.values()
        head = f"{'accuracy':>16}{'forgetting':>11}{'transfer':>16}{'kB in all':>11}{'kB a task':>10}{'s a task':>9}"
        print(f"\n{stream:<40}{head}")
        for name, found in runs.items():
            family, strategy, _ = ROWS[name]
            got = summarised(found, [runs["independent"]])
            memory = found.results["memory"].values.astype(float).sum(axis=1)  # of all parts, by experience
            half = len(memory) // 2
            further = (memory[-1] - memory[half - 1]) / (len(memory) - half)
            transfer = "" if strategy == "independent" else said(got.transfer)
            print(
                f"{name:<30}{family:<10}{said(got.acc):>16}{got.forgetting.mean:>11.4f}{transfer:>16}"
                f"{memory[-1] / 1e3:>11,.0f}{further / 1e3:>10.2f}{got.seconds / len(memory):>9.2f}"
            )
    write_report(every, folder / "report.html")


def said(score: Score) -> str:
    return f"{score.mean:.4f} ± {score.half_width:.4f}" if np.isfinite(score.mean) else ""


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1] == "run":
        run(Path(sys.argv[2]), sys.argv[3:])
    else:
        table(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
