"""What a training step takes with freed memory kept and with it given back, in processes of their own.

    PYTHONPATH=. python benchmarks/allocator.py [ROUNDS] | tee benchmarks/output/allocator.txt

A process learns one experience several times and says how long a step took in the median, and how many pages it had to ask
the system for. The two kinds of process take turns. Strategies and nets are those whose tensors differ most in size.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.interleaved import Times, machine, saved, table
from cl_engine.data.stream import Data, Experience
from cl_engine.nn.net import Net
from cl_engine.runs import plugins, process_memory
from cl_engine.training.optimizers import Train

MLP = ("mlp", {"hidden": [256, 256]}, (1, 28, 28), 12_800, 128)
CASES: dict[str, tuple[str, tuple[str, dict[str, Any], tuple[int, ...], int, int]]] = {
    "MLP 784-256-256-10, batch 128": ("finetune", MLP),
    "the same, its masks (piggyback)": ("piggyback", MLP),
    "LeNet, 28 × 28, batch 64": ("finetune", ("lenet", {}, (1, 28, 28), 3_200, 64)),
    "ResNet-18 of width 20, batch 32": ("finetune", ("resnet18", {"width": 20}, (3, 32, 32), 320, 32)),
}
REPETITIONS = 7


def pages() -> int:
    """Return how many pages of memory this process has been given so far."""
    import resource  # not there on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(case: str, keep: bool) -> tuple[float, float]:
    """Return the seconds of a step and the pages it asks for, medians over repetitions."""
    name, (net_name, options, shape, rows, batch) = CASES[case]
    net = Net(plugins.net_builder(net_name, options, shape, 10), shape)
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(rows, *shape, generator=draw), torch.randint(10, (rows,), generator=draw)
    experience = Experience(step=0, task_id=0, train=Data(x, y), validation=Data(x[:0], y[:0]), classes=10)
    kind: Any = plugins.load("strategies", name)
    steps, seconds, asked = rows // batch, [], []
    with process_memory.kept() if keep else nullcontext():
        for _ in range(REPETITIONS):
            strategy = kind(net, seeds=(0,), setting="task", train=Train(epochs=1, batch=batch, lr=0.01))
            strategy.state = strategy.start()
            began, before = time.perf_counter(), pages()
            for _ in strategy.learning(experience):
                pass
            seconds.append((time.perf_counter() - began) / steps)
            asked.append((pages() - before) / steps)
    return statistics.median(seconds), statistics.median(asked)


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        print(*measure(sys.argv[2], sys.argv[3] == "kept"))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"torch {torch.__version__}, {machine()['cpu']}, {torch.get_num_threads()} threads")
    results = {}
    for case in CASES:
        times: Times = {"given back": [], "kept": []}
        faults: Times = {"given back": [], "kept": []}
        for _ in range(rounds):
            for way, found in times.items():
                command = [sys.executable, __file__, "measure", case, way]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
                found.append(float(said[0]))
                faults[way].append(float(said[1]))
        results[case] = {"seconds": times, "pages": faults}
        print("\n" + "\n".join(table(case, times, 1, "given back")))
        for way, found in faults.items():
            print(f"  pages asked for at a step, {way}: {statistics.median(found):.0f}", flush=True)
    saved("allocator", {"results": results})


if __name__ == "__main__":
    main()
