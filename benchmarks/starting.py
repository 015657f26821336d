"""Time a run takes to start: from the command to the first backward pass, and to its end, beyond `import torch`.

    PYTHONPATH=. python benchmarks/starting.py | tee benchmarks/output/starting.txt

Two tasks of permuted digits, one pass each, in a process of its own, strategies in turn; one thread. Seconds of CPU time that a
process has taken, less those that `import torch` took in it: medians of seven rounds (least – most). To the end is with two
passes, tests, saves, and the scores printed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 7
STRATEGIES = ("finetune", "replay", "piggyback", "skill_recall", "mntdp")
SMALL = ("stream.n=2", "train.epochs=1")


def begin(strategy: str, folder: str) -> None:
    """Run as the command does, and write when torch was there, the first backward pass began, and all was done."""
    import torch

    there, plain = time.process_time(), torch.Tensor.backward
    firsts: list[float] = []

    def noted(*given: Any, **named: Any) -> None:
        firsts.append(time.process_time())
        torch.Tensor.backward = plain  # type: ignore[method-assign]
        plain(*given, **named)

    torch.Tensor.backward = noted  # type: ignore[method-assign]
    from cl_engine.cli import main

    options = (word for option in SMALL for word in ("--set", option))
    main(["run", "permuted_digits", "-s", strategy, *options, "--out", folder], standalone_mode=False)
    print(f"\n{there} {firsts[0]} {time.process_time()}")


def measured(strategy: str) -> tuple[float, float, float]:
    """Return seconds of `import torch`, and from there to the first backward pass and to the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__)), strategy, str(Path(folder) / "run")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    torch, first, end = map(float, said.splitlines()[-1].split())
    return torch, first - torch, end - torch


def main() -> None:
    rounds = [{strategy: measured(strategy) for strategy in STRATEGIES} for _ in range(ROUNDS)]
    print(f"seconds of CPU time, medians of {ROUNDS} rounds")
    print(f"{'':<14}{'import torch':>22}{'to the first step':>22}{'to the end':>22}")
    for strategy in STRATEGIES:
        columns = zip(*(found[strategy] for found in rounds), strict=True)
        shown = (f"{statistics.median(times):.2f} ({min(times):.2f} – {max(times):.2f})" for times in columns)
        print(f"{strategy:<14}" + "".join(f"{text:>22}" for text in shown))


if __name__ == "__main__":
    begin(*sys.argv[1:]) if len(sys.argv) > 1 else main()
