"""What several seeds cost together: in one fit, and in one run of the command line.

    PYTHONPATH=. python benchmarks/seeds.py | tee benchmarks/output/seeds.txt
    PYTHONPATH=. python benchmarks/seeds.py fits | runs [S …]

``fits`` times the ways in which `cl_engine.training.fit` can train S seeds: in turn, as one `torch.vmap`, in forked processes;
and the way it chooses by itself. All take turns in one process; ratios are to S fits of one seed each, one after another.
``runs`` times whole runs as a user starts them (10 tasks of permuted MNIST, 12,800 rows each, the MLP 784-256-256-10,
everything tested after each task): S seeds in one run, S runs one after another, and S runs at the same time, one thread
each. MNIST is looked for under $CL_DATA_ROOT.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.interleaved import machine, saved, table, timed
from cl_engine.nn.net import Net
from cl_engine.runs import plugins
from cl_engine.training import workers
from cl_engine.training.fit import fit
from cl_engine.training.fit_job import FitJob
from cl_engine.training.optimizers import Train

NETS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int, int]] = {
    "MLP 64-64-64-10, batch 32": ("mlp", {"hidden": [64, 64]}, (64,), 32, 200),
    "MLP 784-50-50-10, batch 32": ("mlp", {"hidden": [50, 50]}, (1, 28, 28), 32, 100),
    "MLP 784-100-10, batch 32": ("mlp", {"hidden": [100]}, (1, 28, 28), 32, 100),
    "MLP 784-256-256-10, batch 128": ("mlp", {"hidden": [256, 256]}, (1, 28, 28), 128, 40),
    "LeNet, batch 64": ("lenet", {}, (1, 28, 28), 64, 20),
    "ResNet-18 of width 20, batch 32": ("resnet18", {"width": 20}, (3, 32, 32), 32, 4),
}
SEEDS = (2, 5, 10, 32)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OPTIONS = ("--set", "stream.samples_per_class=1280")


def job(net: Net, seeds: int, batch: int, steps: int) -> FitJob:
    """Return a fit of so many seeds to random rows."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch * steps, *net.input_shape, generator=draw)
    y = torch.randint(10, (batch * steps,), generator=draw)
    every = list(range(seeds))
    return FitJob(
        net=net,
        params=net.init(every),
        loss=lambda params, frozen, x, y: F.cross_entropy(net.one(params, x), y),
        rows=(x, y),
        train=Train(epochs=1, batch=batch, lr=0.01),
        seeds=every,
        step=0,
        task_id=0,
        index=0,
    )


@contextmanager
def forking(from_: float) -> Iterator[None]:
    """Let fits fork from so many operations on."""
    before, workers.FORK_FROM = workers.FORK_FROM, from_
    try:
        yield
    finally:
        workers.FORK_FROM = before


def trained(what: FitJob, from_: float | None = None) -> None:
    with forking(workers.FORK_FROM if from_ is None else from_):
        for _ in fit(what):
            pass


def ways(net: Net, seeds: int, batch: int, steps: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    whole = job(net, seeds, batch, steps)
    ones = [replace(whole, params=net.init([seed]), seeds=[seed]) for seed in range(seeds)]
    never = float("inf")
    return {
        "one fit after another": lambda: [trained(one) for one in ones],
        "in turn": lambda: trained(replace(whole, side_by_side=False), never),
        "one vmap": lambda: trained(replace(whole, side_by_side=True), never),
        "forked": lambda: trained(replace(whole, side_by_side=False), 0),
        "as chosen": lambda: trained(whole),
    }


def fits() -> None:
    """Time the ways of training several seeds."""
    results = {}
    for title, (name, options, shape, batch, steps) in NETS.items():
        net = Net(plugins.net_builder(name, options, shape, 10), shape, device=DEVICE)
        for seeds in SEEDS:
            if seeds * net.parameters > 3_000_000:  # a long benchmark tells no more
                continue
            times = timed(ways(net, seeds, batch, steps), rounds=3)
            results[f"{title}, {seeds} seeds"] = {"steps": steps * seeds, "seconds": times}
            lines = table(f"{title}, {seeds} seeds", times, steps * seeds, "one fit after another")
            print("\n" + "\n".join(lines), flush=True)
    saved("seeds_fits", {"results": results})


def runs(counts: list[int]) -> None:
    """Time whole runs of the command line."""
    results = {}
    with TemporaryDirectory() as folder:
        number = iter(range(1_000_000))

        def start(seeds: str, **environment: str) -> subprocess.Popen[bytes]:
            out = Path(folder) / str(next(number))
            command = [sys.executable, "run.py", "run", "permuted_mnist", "-s", "finetune", "--seeds", seeds, *OPTIONS]
            options = ["--out", str(out), "--device", DEVICE, "--quiet"]
            return subprocess.Popen([*command, *options], env={**os.environ, **environment}, stdout=subprocess.DEVNULL)

        def done(process: subprocess.Popen[bytes]) -> None:
            if process.wait():
                raise SystemExit(f"a run ended with {process.returncode}")

        for count in counts:
            every = str(count)
            found: dict[str, Callable[[], object]] = {
                "runs one after another": lambda count=count: [done(start("1")) for _ in range(count)],
                "one run": lambda every=every: done(start(every)),
                "runs at the same time": lambda count=count: [
                    done(run) for run in [start("1", OMP_NUM_THREADS="1") for _ in range(count)]
                ],
            }
            times = timed(found, rounds=1, warm_up=False)  # whole processes: each round takes minutes
            results[str(count)] = times
            print("\n" + "\n".join(table(f"{count} seeds, whole runs", times, 1, "runs one after another")), flush=True)
    saved("seeds_runs", {"results": results})


def main() -> None:
    print(f"torch {torch.__version__}, {machine()['cpu']}, {torch.get_num_threads()} threads")
    what, *counts = sys.argv[1:] or ["both"]
    if what in ("fits", "both"):
        fits()
    if what in ("runs", "both"):
        runs([int(count) for count in counts] or [2, 10])


if __name__ == "__main__":
    main()
