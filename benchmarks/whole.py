"""A whole benchmark, training and testing all tasks met after each: this engine against Avalanche.

    PYTHONPATH=. python benchmarks/whole.py [TASKS …] | tee benchmarks/output/whole.txt

Permuted MNIST, one head, MLP 784-256-256-10, one pass, batches of 128, SGD with momentum; MNIST's ratio of training to
test rows, a fifth of it: 12,000 and 2,000 a task. The contestants, in turn:

- this engine, `finetune`: the whole run, with log, checkpoints and progress events;
- this engine, `piggyback`: the same with masks (task told), whose answers to old tasks cannot have changed;
- Avalanche's `Naive` on tensors in memory, tested in batches of 512, accuracy as its only metric;
- the same on Avalanche's own `PermutedMNIST`, with its transforms.

Rows differ between the contestants (each draws its own subset and permutations), numbers do not. MNIST is looked for
under $CL_DATA_ROOT.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.interleaved import machine, saved, table, timed
from cl_engine.data.stream import Data
from cl_engine.experiment import Experiment, default_data_root
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.tensor_benchmark import Rows, TensorBenchmark, scaled
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario

with quietly():
    from avalanche.benchmarks.classic import PermutedMNIST
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

TRAIN_PER_CLASS, TEST_PER_CLASS = 1200, 200
SCENARIO: dict[str, Any] = {
    "stream": {
        "name": "permuted",
        "source": "mnist",
        "setting": "domain",
        "samples_per_class": TRAIN_PER_CLASS,
        "test_samples_per_class": TEST_PER_CLASS,
    },
    "net": {"name": "mlp", "hidden": [256, 256]},
    "train": {"epochs": 1, "batch": 128, "lr": 0.05, "momentum": 0.9},
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Accuracies = dict[str, list[float]]


def ours(strategy: str, tasks: int, found: Accuracies, number: Iterator[int], folder: Path, **overrides: Any) -> None:
    """Run this engine as `run.py run` does."""
    scenario = Scenario("permuted_fifth", SCENARIO, "")
    experiment = Experiment.of(scenario, strategy, (0,), **{"stream.n": tasks, **overrides})
    run = open_run(experiment.run(folder / str(next(number)), device=DEVICE))
    found.setdefault(strategy, []).append(float(run.results["acc"].values[-1].mean()))


def avalanche(name: str, tasks: int, benchmark: Callable[[], Any], found: Accuracies) -> None:
    """Train and test `Naive`, task after task."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    strategy = Naive(
        model=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=128,
        train_epochs=1,
        eval_mb_size=512,
        device=DEVICE,
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
    )
    held = benchmark()
    for step, experience in enumerate(held.train_stream):
        strategy.train(experience)
        metrics = strategy.eval(held.test_stream[: step + 1])
    cells = [value for key, value in metrics.items() if key.startswith("Top1_Acc_Exp/eval_phase")]
    assert len(cells) == tasks
    found.setdefault(name, []).append(float(np.mean(cells)))


def tensors(tasks: int) -> Callable[[], Any]:
    """Return what makes a benchmark of tensors that are in memory before the clock starts."""
    scenario = Scenario("permuted_fifth", SCENARIO, "")
    stream = Experiment.of(scenario, "finetune", (0,), **{"stream.n": tasks}).stream()
    train = [scaled(stream[step].train, stream) for step in range(tasks)]
    test = [scaled(stream.test(task), stream) for task in range(tasks)]
    labels, classes = [0] * tasks, [list(range(10))] * tasks

    def rows(of: list[Data]) -> Rows:
        return Rows(lambda index: of[index], labels, classes)

    return lambda: TensorBenchmark(rows(train), rows(test))


class Classic:
    """Avalanche's own PermutedMNIST, of whose rows, which it keeps by class, every so many are taken."""

    def __init__(self, tasks: int) -> None:
        whole = PermutedMNIST(tasks, seed=0, dataset_root=os.fspath(default_data_root()))
        self.train_stream, self.test_stream = list(whole.train_stream), list(whole.test_stream)
        for stream, rows in ((self.train_stream, 10 * TRAIN_PER_CLASS), (self.test_stream, 10 * TEST_PER_CLASS)):
            for experience in stream:
                held = len(experience.dataset)
                experience.dataset = experience.dataset.subset(range(0, held, held // rows))


def contestants(tasks: int, folder: Path, found: Accuracies) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    number = iter(range(1_000_000))
    held = tensors(tasks)
    told = {"stream.setting": "task"}
    return {
        "this engine, finetune": lambda: ours("finetune", tasks, found, number, folder),
        "this engine, piggyback": lambda: ours("piggyback", tasks, found, number, folder, **told),
        "Avalanche Naive, tensors": lambda: avalanche("Naive, tensors", tasks, held, found),
        "Avalanche Naive, PermutedMNIST": lambda: avalanche(
            "Naive, PermutedMNIST", tasks, lambda: Classic(tasks), found
        ),
    }


def main() -> None:
    print(f"torch {torch.__version__}, {machine()['cpu']}, {torch.get_num_threads()} threads")
    results = {}
    for tasks in [int(count) for count in sys.argv[1:]] or [5, 50]:
        found: Accuracies = {}
        short = tasks < 20
        with TemporaryDirectory() as folder, quietly():
            times = timed(contestants(tasks, Path(folder), found), rounds=3 if short else 1, warm_up=short)
        results[str(tasks)] = {"seconds": times, "accuracy": found}
        print("\n" + "\n".join(table(f"{tasks} tasks", times, tasks, "this engine, finetune")))
        for name, values in found.items():
            print(f"  accuracy after the last task, {name}: {np.mean(values):.3f}", flush=True)
    saved("whole", {"results": results})


if __name__ == "__main__":
    main()
