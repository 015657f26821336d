"""Experts: the one that a proxy chooses against other choices.

    PYTHONPATH=. python benchmarks/experts.py | tee benchmarks/output/experts.txt

The scenario `experts_mnist`, three seeds; needs MNIST under $CL_DATA_ROOT. Five tasks with plenty of data leave an expert
each; in the ten after them their views come again with five images a class. The accuracy is the mean over these ten, right
after each was learned; a hit is an expert that was trained on the task's own view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cl_engine.analysis.scores.statistics import mean_and_deviation
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Evaluated, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.strategies.experts import ExpertChosen
from cl_engine.streams.compositional import Compositional

SCENARIO, SEEDS = "experts_mnist", (0, 1, 2)
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"best by {proxy}": ("experts", {"proxy": proxy}) for proxy in ("knn", "linear", "leep", "h_score")},
    "best by knn, directions": ("experts", {"cosine": True}),
    "best by knn, adapters": ("experts", {"form": "adapter"}),
    "generalist": ("experts", {"choose": "generalist"}),
    "at random": ("experts", {"choose": "random"}),
    "worst by knn": ("experts", {"choose": "worst"}),
}


def measured(strategy: str, options: dict[str, Any]) -> str:
    """Run a strategy; return accuracy on the scarce tasks, share of hits, and bytes at the end."""
    experiment = Experiment.of(SCENARIO, strategy, SEEDS, **options)
    stream = experiment.stream()
    assert isinstance(stream, Compositional)
    first, accuracy, hits, memory = len(stream.inputs), [], [], 0
    for event in simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda)):
        match event:
            case Evaluated() if event.task_id == event.step >= first:
                accuracy.append(np.array(event.n_correct) / event.n_total)
            case ExpertChosen() if event.task_id >= first:
                view = stream.parts(event.task_id).inputs
                hits.append([one >= 0 and stream.parts(one).inputs == view for one in event.expert])
            case TaskLearned():
                memory = sum(event.memory.values())
    by_seed = np.mean(accuracy, axis=0)
    return f"{mean_and_deviation(by_seed)}{np.mean(hits):>8.2f}{memory:>14,}"


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, seeds 0 to 2, one thread\n{'':<26}{'accuracy ± sd':>13}{'hits':>8}{'bytes a seed':>14}"
    )
    for name, (strategy, options) in ROWS.items():
        print(f"{name:<26}{measured(strategy, options)}", flush=True)


if __name__ == "__main__":
    main()
