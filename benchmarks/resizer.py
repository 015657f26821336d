"""A learned front end against interpolation and strided convolutions; and a front a task on images of five sizes.

    PYTHONPATH=. python benchmarks/resizer.py fronts | tee benchmarks/output/resizer.txt
    PYTHONPATH=. python benchmarks/resizer.py tasks | tee benchmarks/output/resolution.txt

MNIST is under $CL_DATA_ROOT. One thread, one seed after the other; seconds are those of the processor.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run
from cl_engine.runs import plugins

SEEDS = (0, 1, 2)
FRONTS = ("bilinear", "antialiased", "learned", "learned_antialiased", "strided")
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "a front a task": ("patch", {}),
    "a head a task alone": ("head_only", {}),
    "all shared, finetune": ("finetune", {}),
    "norms a task": ("patch", {"kind": "scale_bias"}),
}


def made(scenario: str, strategy: str, seed: int, changes: dict[str, Any]) -> Run:
    """Return the log of a run of one seed."""
    folder = tempfile.mkdtemp()
    return open_run(Experiment.of(scenario, strategy, (seed,), **changes).run(folder, device="cpu"))


def range_of(values: list[float]) -> str:
    """Return the mean over seeds, and what each came to."""
    return f"{np.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


def fronts() -> None:
    """Print accuracy, weights, operations and time of each front end."""
    print(
        "resizer_mnist: accuracy on test rows, mean and seeds 0 to 2; weights of the front; training operations; seconds"
    )
    accuracy: dict[str, list[float]] = {}
    for front in FRONTS:
        accuracy[front], seconds, flops = [], [], 0.0
        for seed in SEEDS:
            started = time.process_time()
            run = made("resizer_mnist", "finetune", seed, {"net.front": front, "stream.seed": seed})
            seconds.append(time.process_time() - started)
            accuracy[front].append(float(run.results["accuracy"].values[-1, 0, 0]))
            flops = float(run.table("experiences")["training_flops"].iloc[0])
        options = {"inner": "small_cnn", "size": 14, "front": front}
        weights = sum(w.numel() for w in plugins.net_builder("resized", options, (1, 56, 56), 10)().front.parameters())
        print(
            f"{front:<20} {range_of(accuracy[front])}  {weights:>6,}  {flops:.2e}  {np.mean(seconds):6.1f} s",
            flush=True,
        )
    for one, other in (
        ("learned", "antialiased"),
        ("antialiased", "bilinear"),
        ("learned", "bilinear"),
        ("learned", "strided"),
        ("learned_antialiased", "learned"),
    ):
        less = [a - b for a, b in zip(accuracy[one], accuracy[other], strict=True)]
        print(f"{one} − {other}: {np.mean(less):+.3f} ({', '.join(f'{value:+.3f}' for value in less)})")


def tasks() -> None:
    """Print what each way makes of five sizes and blurs of the same images, and what it forgets."""
    print("resolution_mnist: accuracy on test rows by task, mean of seeds 0 to 2; ACC and forgetting, mean and seeds")
    for way, (strategy, changes) in WAYS.items():
        runs = [made("resolution_mnist", strategy, seed, {"stream.seed": seed, **changes}) for seed in SEEDS]
        scores = np.stack([run.results["accuracy"].values[..., 0] for run in runs])  # [seeds, evaluations, tasks]
        last = scores[:, -1]
        forgotten = [float(np.mean(np.nanmax(own[:-1, :-1], axis=0) - own[-1, :-1])) for own in scores]
        parts = " ".join(f"{value:.3f}" for value in last.mean(axis=0))
        print(
            f"{way:<24} {parts}  ACC {range_of([float(own.mean()) for own in last])}  forgetting {range_of(forgotten)}",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"fronts": fronts, "tasks": tasks}[sys.argv[1]]()
