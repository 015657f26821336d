"""Ten questions about the same rooms, learned by ten strategies: the tables and pictures of docs/targets.md.

    PYTHONPATH=. python benchmarks/views.py strategies FOLDER | tee benchmarks/output/views_strategies.txt
    PYTHONPATH=. python benchmarks/views.py reached FOLDER | tee benchmarks/output/views_reached.txt

``strategies`` runs the scenario `views_scenes`, three seeds, and prints the last scores by measure, and Δm against `independent`;
the runs stay in the folder, and those that are there are not done again. ``reached`` lets `independent` learn one task of each
kind of map, and boxes, for longer, says how far it comes beside a guess, and draws its answers. ± is the sample deviation.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.cli.predictions import draw_predictions
from cl_engine.experiment import Experiment
from cl_engine.results.of_measure import by_measure
from cl_engine.results.run import Run, open_run

STRATEGIES = (
    "independent",
    "finetune",
    "joint",
    "replay",
    "piggyback",
    "packnet",
    "patch",
    "skill_recall",
    "mntdp",
    "compose",
)
REACHED = {
    "stream.source": "scenes?size=32&rows=4000&test_rows=500",
    "stream.views": ["segmentation", "depth", "normals", "boxes"],
    "net.width": 32,
    "train.epochs": 20,
}
PICTURES = Path(__file__).parents[1] / "docs"


def strategies(folder: Path) -> None:
    """Run all strategies and print the last score in each measure, Δm, memory and seconds."""
    runs = []
    for strategy in STRATEGIES:
        Experiment.of("views_scenes", strategy, (0, 1, 2)).run(folder / strategy, device="cpu")
        runs.append(open_run(folder / strategy))
    measures = runs[0].measures
    print(f"\n{'':<13}" + "".join(f"{measure.name:>20}" for measure in measures) + f"{'Δm':>17}{'bytes':>13}{'s':>6}")
    for run in runs:
        parts = by_measure([run])
        scores = "".join(f"{mean_and_deviation(summarised(part).acc.values):>20}" for part in parts)
        whole = summarised(run, runs)
        change = mean_and_deviation(whole.delta_m.values)
        print(f"{run.strategy:<13}{scores}{change:>17}{whole.memory:>13,.0f}{whole.seconds:>6.0f}", flush=True)
    print("guess        " + "".join(f"{guess(part):>20.3f}" for part in by_measure(runs[:1])))


def guess(run: Run) -> float:
    """Return the mean of what guesses come to on the tasks of a run."""
    return float(np.mean(run.results["task_guess"].values))


def reached(folder: Path) -> None:
    """Let `independent` learn for longer, print how far it comes, and draw its answers."""
    began = time.perf_counter()
    path = Experiment.of("views_scenes", "independent", (0,), **REACHED).run(folder / "reached", device="cpu")
    run = open_run(path)
    names, guesses, last = (run.results[name].values for name in ("task_name", "task_guess", "score"))
    for task, name in enumerate(names):
        score = last[-1, task, 0]
        print(f"{name:<14} {run.measure_of(task).title:<38} {score:8.3f}   a guess {guesses[task]:8.3f}")
        draw_predictions(path, task, PICTURES / f"answers_{name}.png", None)
    print(f"{time.perf_counter() - began:.0f} s, {summarised(run).seconds:.0f} s of them in the run")


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread a seed")
    what, folder = sys.argv[1:]
    {"strategies": strategies, "reached": reached}[what](Path(folder))


if __name__ == "__main__":
    main()
