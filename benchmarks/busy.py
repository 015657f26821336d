"""Steps on a machine that does something else too: by all cores, by threads that soon sleep when they wait, and by one thread.

    PYTHONPATH=. python benchmarks/busy.py | tee benchmarks/output/busy.txt

A pass of this engine over rows in memory; with nothing beside it, and with a process beside it that multiplies matrices in one
thread. Threads that share an operation wait for each other awake: `as built` is libgomp's own way (300,000 turns), `soon asleep`
after 5,000. Each way is a process of its own, in turn; milliseconds a step by the clock, medians of three rounds (least – most).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS, PASSES = 3, 5
SAID = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")  # by which users say it
WAYS: dict[str, dict[str, str]] = {
    "as built": {},
    "soon asleep": {"GOMP_SPINCOUNT": "5000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
STEPS = {"MLP 784-256-256-10": 20, "LeNet, 28": 10}  # the first letters of what `benchmarks/training.py` trains
BESIDE = "import torch; torch.set_num_threads(1); a = torch.randn(256, 256)\nwhile True: a @ a"


def passes() -> None:
    """Print the milliseconds a step of each net, as JSON."""
    import torch

    from benchmarks.training import NETS, contestants
    from cl_engine.nn.net import Net
    from cl_engine.runs import plugins

    found = {}
    for start, steps in STEPS.items():
        title = next(title for title in NETS if title.startswith(start))
        name, options, shape, _, batch = NETS[title]
        net = Net(plugins.net_builder(name, options, shape, 10), shape, device=torch.device("cpu"))
        learn = contestants(net, steps * batch, batch)[0]["this engine"]
        learn()
        times = []
        for _ in range(PASSES):
            began = time.perf_counter()
            learn()
            times.append(time.perf_counter() - began)
        found[title] = statistics.median(times) / steps * 1e3
    print(json.dumps(found))


def measured(way: str) -> dict[str, float]:
    known = {name: value for name, value in os.environ.items() if name not in SAID}
    here = [sys.executable, str(Path(__file__)), "passes"]
    said = subprocess.run(here, env={**known, **WAYS[way]}, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def main() -> None:
    print(f"{os.cpu_count()} cores; ms a step, medians of {ROUNDS} rounds (least – most)\n")
    print(f"{'':<36}{'':<14}{'nothing beside it':>26}{'a process beside it':>26}")
    found: dict[tuple[str, str, bool], list[float]] = {}
    for busy in (False, True):
        beside = subprocess.Popen([sys.executable, "-c", BESIDE]) if busy else None
        try:
            for _ in range(ROUNDS):
                for way in WAYS:
                    for title, step in measured(way).items():
                        found.setdefault((title, way, busy), []).append(step)
        finally:
            if beside is not None:
                beside.kill()
    for title, way in dict.fromkeys(key[:2] for key in found):
        cells = [found[title, way, busy] for busy in (False, True)]
        said = [f"{statistics.median(each):.2f} ({min(each):.2f} – {max(each):.2f})" for each in cells]
        print(f"{title:<36}{way:<14}{said[0]:>26}{said[1]:>26}")


if __name__ == "__main__":
    passes() if sys.argv[1:] == ["passes"] else main()
