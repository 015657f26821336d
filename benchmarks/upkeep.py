"""What upkeep costs at every step, beside plain training: of one seed, and of ten as one `torch.vmap`.

    PYTHONPATH=. python benchmarks/upkeep.py | tee benchmarks/output/upkeep.txt
    PYTHONPATH=. python benchmarks/upkeep.py ROUNDS

All take turns, round by round; ratios are to no upkeep. Steps are those of the permuted MNIST of L2 Init (an MLP
784-100-100-10, Adam, batches of 16) and of a LeNet (batches of 64); rows are random. Units are looked at every 100 steps, where
they are not at each, and continual backpropagation replaces one of 100 units of a layer every 10 steps, so that the work of
replacing is in the numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.interleaved import machine, saved, table, timed
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.runs.upkeep import upkeep_of
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizers import Train

STEPS = 100
NETS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int, tuple[int, ...]]] = {
    "MLP 784-100-100-10, batch 16": ("mlp", {"hidden": [100, 100]}, (1, 28, 28), 16, (1, 10)),
    "LeNet, batch 64": ("lenet", {}, (1, 28, 28), 64, (1,)),
}
UPKEEP = [
    "",
    "l2_init?strength=0.01",
    "shrink_perturb",
    "continual_backprop?rate=1e-3&maturity=10",
    "redo?period=100",
    "regrama?period=100",
    "cpr?period=100",
    "upgd?sigma=0",
    "upgd?sigma=0.01",
]


def fitted(name: str, seeds: int, upkeep: str) -> Callable[[], object]:
    """Return a function that fits so many seeds with this upkeep."""
    kind, options, shape, batch, _ = NETS[name]
    net = Net(plugins.net_builder(kind, options, shape, 10), shape)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch * STEPS, *shape, generator=draw)
    y = torch.randint(10, (batch * STEPS,), generator=draw)
    job = FitJob(
        net=net,
        params=net.init(range(seeds)),
        loss=lambda params, frozen, x, y: F.cross_entropy(net.one(params, x), y),
        rows=(x, y),
        train=Train(epochs=1, batch=batch, lr=1e-3, optimizer="adam"),
        seeds=list(range(seeds)),
        step=0,
        task_id=0,
        side_by_side=seeds > 1,
        upkeep=upkeep_of(upkeep),
    )
    return lambda: list(fit(job))


def main(rounds: int = 9) -> None:
    """Time all, print a table each, and save the seconds."""
    torch.set_num_threads(1)
    found = {}
    for name, (_, _, _, _, sizes) in NETS.items():
        for seeds in sizes:
            of_upkeep = partial(fitted, name, seeds)
            times = timed({upkeep or "none": of_upkeep(upkeep) for upkeep in UPKEEP}, rounds)
            title = f"{name}, {seeds} seed{'s as one vmap' if seeds > 1 else ''}"
            print("\n".join([*table(title, times, STEPS, "none"), ""]), flush=True)
            found[title] = times
    print(machine())
    saved("upkeep", found)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
