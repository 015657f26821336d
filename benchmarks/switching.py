"""What it costs to go from task to task over one frozen net, with more and more tasks kept: a table of docs/adapters.md.

    PYTHONPATH=. python benchmarks/switching.py | tee benchmarks/output/switching.txt

Permutations of scikit-learn's digits, a net of 64-256-256-10, one seed, one thread. With 1, 35, 100 and 1,000 tasks kept, tasks
are asked in turn for one row, each call another task, and learned in turn, one pass over twenty rows each. Tasks that were not
learned have the first one's numbers, in rows of their own. Medians of milliseconds of CPU; quartiles beside them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_engine.data.stream import Experience
from cl_engine.experiment import Experiment
from cl_engine.strategy import Strategy

MARKS, CALLS, LEARNED = (1, 35, 100, 1000), 400, 40
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora, rank 4": ("lora", {}),
    "scale and shift": ("patch", {}),
    "biases": ("patch", {"kind": "bias"}),
    "bottleneck of 8": ("patch", {"kind": "bottleneck"}),
    "soft mask": ("patch", {"kind": "soft_mask"}),
    "piggyback": ("piggyback", {"mask_lr": 0.01}),
}
SMALL = {
    "net.hidden": [256, 256],
    "stream.samples_per_class": 2,
    "train.batch": 20,
    "train.epochs": 1,
    "stream.setting": "task",
}


def filled(strategy: Strategy, tasks: int) -> None:
    """Put rows into every bank of tasks, up to this many: the last row again."""
    for bank in (part for part in strategy.state.values() if hasattr(part, "put")):
        while len(bank) < tasks:
            bank.put(len(bank), bank[len(bank) - 1].clone())


def quartiles(do: Callable[[int], object], calls: int) -> str:
    """Return the median and quartiles of what calls take, in ms of CPU; each is given its number."""
    found = []
    for call in range(calls):
        began = time.process_time()
        do(call)
        found.append(1e3 * (time.process_time() - began))
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:6.2f} ({low:.2f}, {high:.2f})"


def answer(strategy: Strategy, x: Tensor, tasks: int, call: int) -> Tensor:
    """Ask another task with each call."""
    return strategy.predict(x, call % tasks)


def learn(strategy: Strategy, experiences: list[Experience], call: int) -> None:
    """Learn another task with each call."""
    for _ in strategy.learning(experiences[call % len(experiences)]):
        pass


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, ms of CPU: median (quartiles)")
    print(f"{'':<18}{'tasks':>6}  {'an answer':<22}  a task learned")
    for name, (which, options) in ROWS.items():
        experiment = Experiment.of("endless_permuted_digits", which, (0,), **{**SMALL, **options})
        stream = experiment.stream()
        strategy = experiment.build_strategy(stream)
        strategy.state = strategy.start()
        x = stream.test(0).x[:1]
        experiences = [stream[step] for step in range(LEARNED)]
        list(strategy.learning(experiences[0]))
        for tasks in MARKS:
            filled(strategy, tasks)
            asked = quartiles(partial(answer, strategy, x, tasks), CALLS)
            taught = quartiles(partial(learn, strategy, experiences[: min(tasks, LEARNED)]), LEARNED)
            print(f"{name:<18}{tasks:>6}  {asked:<22}  {taught}", flush=True)


if __name__ == "__main__":
    main()
