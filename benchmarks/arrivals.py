"""Ten rows at a time, each once: CPU time of an arrival in this engine, in a loop written by hand, and in Avalanche.

    PYTHONPATH=. python benchmarks/arrivals.py | tee benchmarks/output/arrivals.txt

MNIST in five tasks of two digits, the task not told: 6,000 arrivals; MLP 784-100-100-10, SGD at .05, one step an arrival, and ten
rows of a memory of 500 beside it where there is one. The contestants, in turn, on one thread, in CPU time:

- this engine: the whole run, with its log, progress events, online accuracy and tests after every task;
- a loop written by hand over the same rows, which keeps nothing and counts nothing;
- Avalanche on its own online stream of the same rows as tensors, with its evaluation switched off while it learns.

What an arrival takes is what a run of all rows takes more than one of a tenth of them, by the number of arrivals it has more:
what a run takes to start is left out. Accuracies are of all rows, after the last task. MNIST is looked for under $CL_DATA_ROOT.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.interleaved import machine, saved
from cl_engine.data.stream import Data, Stream
from cl_engine.experiment import Experiment
from cl_engine.interop.lazy_import import quietly
from cl_engine.interop.tensor_benchmark import Rows, TensorBenchmark, scaled
from cl_engine.results.run import open_run

with quietly():
    from avalanche.benchmarks.scenarios.online import split_online_stream
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
    from avalanche.training.storage_policy import ReservoirSamplingBuffer
    from avalanche.training.supervised import DER, ER_ACE, Naive

SCENARIO, PIECE, MEMORY, RATE, TASKS = "online_split_mnist", 10, 500, 0.05, 5
ROUNDS, FEW = 3, 540  # rows of each class in the short run
OURS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "replay": {"samples": MEMORY},
    "er_ace": {"samples": MEMORY},
    "der": {"samples": MEMORY},
}
Outcome = tuple[float, int, float]  # CPU seconds, arrivals, accuracy


def stream_of(limit: int | None) -> Stream:
    return Experiment.of(SCENARIO, "finetune", (0,), **_limit(limit)).stream()


def _limit(limit: int | None) -> dict[str, int]:
    return {} if limit is None else {"stream.samples_per_class": limit}


def arrivals_of(stream: Stream) -> int:
    return sum(-(-len(stream[task].train) // PIECE) for task in range(TASKS))


def ours(strategy: str, limit: int | None, folder: Path, number: Iterator[int]) -> Outcome:
    """Run this engine as `run.py run` does."""
    arrivals = arrivals_of(stream_of(limit))
    experiment = Experiment.of(SCENARIO, strategy, (0,), **_limit(limit), **OURS[strategy])
    began = time.process_time()
    run = open_run(experiment.run(folder / str(next(number)), device="cpu"))
    return time.process_time() - began, arrivals, float(run.results["acc"].values[-1].mean())


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def accuracy(net: nn.Module, stream: Stream) -> float:
    """Return the mean accuracy over tasks."""
    net.eval()
    with torch.no_grad():
        tests = [scaled(stream.test(task), stream) for task in range(TASKS)]
        return float(np.mean([float((net(x).argmax(dim=1) == y).float().mean()) for x, y in map(_pair, tests)]))


def _pair(data: Data) -> tuple[Tensor, Tensor]:
    return data.x, data.y


def by_hand(memory: bool, limit: int | None) -> Outcome:
    """Learn the rows as they arrive, with a reservoir where one is asked for."""
    stream = stream_of(limit)
    net = module()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    draw = np.random.default_rng(0)
    held_x, held_y, seen = torch.empty(MEMORY, *stream.input_shape), torch.empty(MEMORY, dtype=torch.int64), 0
    mean, std = (torch.tensor(part).reshape(-1, 1, 1) for part in (stream.mean, stream.std))
    tasks = [stream[task].train for task in range(TASKS)]
    arrivals, began = 0, time.process_time()
    for rows in tasks:
        for stored, y in zip(rows.x.split(PIECE), rows.y.split(PIECE), strict=True):
            x = (stored.float() - mean) / std
            inputs, labels = x, y
            if memory and seen:
                index = torch.from_numpy(draw.integers(0, min(seen, MEMORY), PIECE))
                inputs, labels = torch.cat([x, held_x[index]]), torch.cat([y, held_y[index]])
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), labels).backward()
            optimizer.step()
            arrivals += 1
            if memory:
                places = np.arange(seen, seen + len(y))
                full = places >= MEMORY
                places[full] = draw.integers(0, places[full] + 1)
                kept = places < MEMORY
                where = torch.from_numpy(places[kept])
                held_x[where], held_y[where] = x[torch.from_numpy(kept)], y[torch.from_numpy(kept)]
                seen += len(y)
    return time.process_time() - began, arrivals, accuracy(net, stream)


def avalanche(name: str, limit: int | None) -> Outcome:
    """Learn Avalanche's online stream of the same rows."""
    stream = stream_of(limit)
    train = [scaled(stream[task].train, stream) for task in range(TASKS)]
    classes = [[2 * task, 2 * task + 1] for task in range(TASKS)]
    rows = Rows(lambda index: train[index], [0] * TASKS, classes)
    held = TensorBenchmark(rows, rows)
    net = module()
    how: dict[str, Any] = {
        "model": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=RATE),
        "train_mb_size": PIECE,
        "device": "cpu",
        "evaluator": EvaluationPlugin(accuracy_metrics(stream=True), loggers=[]),
    }
    memory = {"mem_size": MEMORY, "batch_size_mem": PIECE}
    if name == "Naive":
        strategy = Naive(criterion=nn.CrossEntropyLoss(), train_epochs=1, **how)
    elif name == "reservoir replay":
        plugin = ReplayPlugin(**memory, storage_policy=ReservoirSamplingBuffer(MEMORY))
        strategy = Naive(criterion=nn.CrossEntropyLoss(), train_epochs=1, plugins=[plugin], **how)
    else:
        strategy = {"ER-ACE": ER_ACE, "DER": DER}[name](**memory, **how)
    arrivals, began = 0, time.process_time()
    for piece in split_online_stream(held.train_stream, PIECE, shuffle=False):
        strategy.train(piece)
        arrivals += 1
    return time.process_time() - began, arrivals, accuracy(net, stream)


def contestants(folder: Path) -> dict[str, Callable[[int | None], Outcome]]:
    """Return what is measured, by name."""
    number = iter(range(1_000_000))
    found: dict[str, Callable[[int | None], Outcome]] = {
        "by hand": partial(by_hand, False),
        "by hand, reservoir": partial(by_hand, True),
    }
    for strategy in OURS:
        found[f"this engine, {strategy}"] = partial(ours, strategy, folder=folder, number=number)
    for name in ("Naive", "reservoir replay", "ER-ACE", "DER"):
        found[f"Avalanche, {name}"] = partial(avalanche, name)
    return found


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {machine()['cpu']}, 1 thread; CPU time, medians of {ROUNDS} rounds (least – most)\n"
    )
    print(f"{'':<30}{'ms an arrival':>14}{'least – most':>18}{'times by hand':>15}{'accuracy':>10}")
    cost: dict[str, list[float]] = {}
    reached: dict[str, float] = {}
    with TemporaryDirectory() as folder, quietly():
        every = contestants(Path(folder))
        for _ in range(ROUNDS):
            for name, contestant in every.items():
                few, all_rows = contestant(FEW), contestant(None)
                cost.setdefault(name, []).append((all_rows[0] - few[0]) / (all_rows[1] - few[1]) * 1e3)
                reached[name] = all_rows[2]
    for name, each in cost.items():
        with_memory = "finetune" not in name and "Naive" not in name and name != "by hand"
        against = cost["by hand, reservoir" if with_memory else "by hand"]
        ratio = statistics.median(own / base for own, base in zip(each, against, strict=True))
        spread = f"{min(each):.3f} – {max(each):.3f}"
        print(f"{name:<30}{statistics.median(each):>14.3f}{spread:>18}{ratio:>15.2f}{reached[name]:>10.3f}", flush=True)
    saved("arrivals", {"ms an arrival": cost, "accuracy": reached})


if __name__ == "__main__":
    main()
