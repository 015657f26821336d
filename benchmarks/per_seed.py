"""Time of ten seeds with a sequence of tasks each, beside ten with one sequence, a seed by itself, and a loop written by hand.

    PYTHONPATH=. python benchmarks/per_seed.py [ROUNDS] | tee benchmarks/output/per_seed.txt

Permuted MNIST of L2 Init (scenario plasticity_permuted_mnist): two tasks are learned, without tests; what is timed is the second,
its rows and all. By hand ten seeds are a batched product for each layer: rows are picked and their pixels reordered for each
seed, the batch is scored before its step, Adam is fused, and nothing is kept. One thread; contestants take turns, medians and
quartiles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.interleaved import machine, table, timed
from cl_engine.engine.agenda import Learn
from cl_engine.engine.loop import simulate
from cl_engine.events import TaskStarted
from cl_engine.experiment import Experiment

SCENARIO, STEPS, BATCH, WIDTHS = "plasticity_permuted_mnist", 625, 16, (784, 100, 100, 10)


def learning(seeds: int, per_seed: bool) -> Callable[[], object]:
    """Return what learns one more task."""
    experiment = Experiment.of(SCENARIO, "finetune", tuple(range(seeds)), **{"stream.per_seed": per_seed})
    stream = experiment.stream()
    events = simulate(stream, experiment.build_strategy(stream), map(Learn, range(500)), online=0)
    next(event for event in events if isinstance(event, TaskStarted))
    return lambda: next(event for event in events if isinstance(event, TaskStarted))  # up to the start of the next


def by_hand(seeds: int) -> Callable[[], object]:
    """Return what learns one more task without the engine."""
    rows = Experiment.of(SCENARIO, "finetune", tuple(range(seeds))).stream()[0].train.of_seeds
    assert rows is not None
    held, chosen, labels = rows.held.flatten(1), rows.index, rows.y
    weights = [torch.empty(seeds, wide, out) for wide, out in pairwise(WIDTHS)]
    biases = [torch.zeros(seeds, 1, out, requires_grad=True) for out in WIDTHS[1:]]
    for weight in weights:
        weight.uniform_(-(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5).requires_grad_()
    optimizer = torch.optim.Adam([*weights, *biases], lr=1e-3, fused=True)

    def task() -> Tensor:
        pixels = torch.stack([torch.randperm(WIDTHS[0]) for _ in range(seeds)]).unsqueeze(1).expand(-1, BATCH, -1)
        order = torch.stack([torch.randperm(chosen.shape[1]) for _ in range(seeds)])
        right = torch.zeros(seeds)
        for batch in order.split(BATCH, dim=1):
            x = held[chosen.gather(1, batch)].gather(2, pixels).float().sub_(127.5).div_(127.5)
            y = labels.gather(1, batch)
            for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
                x = torch.baddbmm(bias, x, weight)
                x = x.relu() if layer < len(weights) else x
            right += (x.detach().argmax(dim=2) == y).sum(dim=1)
            (F.cross_entropy(x.flatten(0, 1), y.flatten(), reduction="sum") / BATCH).backward()
            optimizer.step()
            optimizer.zero_grad()
        return right

    return task


def main() -> None:
    torch.set_num_threads(1)
    contestants = {
        "ten seeds, one sequence": learning(10, False),
        "ten seeds, a sequence each": learning(10, True),
        "ten seeds by hand, a sequence each": by_hand(10),
        "one seed": learning(1, True),
    }
    times = timed(contestants, rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 9)
    print(machine())
    print("\n".join(table("a task of 625 steps", times, STEPS, "ten seeds, one sequence")))


if __name__ == "__main__":
    main()
