"""What a run costs beside training and testing: agenda, events, listeners, log and checkpoints; and how long it takes to start.

    PYTHONPATH=. python benchmarks/engine_share.py [ROUNDS] | tee benchmarks/output/engine_share.txt

Ten tasks of permuted MNIST, an MLP 784-256-256-10, the scenario's passes of batches of 128, all tasks tested after each, on
a GPU where there is one, the log recorded, and all saved as often as `save_share` allows, ROUNDS times (3). All is timed from
inside: listeners and saves around their calls, what a stream takes around its methods, the rest by the durations in the
events. Beside it the same ten fits in a bare loop that nobody listens to. The start is that of `run.py run`, in processes
of its own: from the end of ``import torch`` to the first event, by import and by what is then done.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.interleaved import machine, saved
from cl_engine.checkpoints.store import Store
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import Progress, Saved, Scored, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.loggers.console import Console
from cl_engine.loggers.recorder import Recorder
from cl_engine.runs import process_memory

SCENARIO, CHANGES = "permuted_mnist", {"stream.n": 10}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHARES = (0.05, 0.01)  # of the run that saving may take: what a scenario has if it says nothing, and less
START = """
import time, sys
import torch
began = time.perf_counter()
def lap(name):
    global began
    now = time.perf_counter()
    print(name, now - began)
    began = now
import torch._dynamo
lap("torch._dynamo, which torch's optimisers import")
import cl_engine.cli, cl_engine.cli.terminal
lap("import of this engine")
from pathlib import Path
from cl_engine.experiment import Experiment
class First(Exception):
    pass
def stop(event):
    raise First
experiment = Experiment.of("permuted_mnist", "finetune")
try:
    experiment.run(Path(sys.argv[1]), listeners=lambda stream: [stop])
except First:
    pass
lap("from the command to the first event")
"""


def shares(folder: Path, save_share: float) -> dict[str, float]:
    """Return the seconds of a run, by what they were spent on, where saving may take so much of it."""
    spent: Counter[str] = Counter()

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.perf_counter()
            found = function(*arguments)
            spent[name] += time.perf_counter() - began
            return found

        return call

    folder.mkdir()
    experiment = Experiment.of(SCENARIO, "finetune", **CHANGES)
    stream = experiment.stream(DEVICE)
    arrival, held = stream.arrival, []

    def next_arrival(step: int) -> Any:
        held.clear()  # to give back the rows of the last experience, 47 MB, takes 4 ms, which are those of data
        held.append(arrival(step))
        return held[0]

    stream.arrival = timed("data", next_arrival)  # type: ignore[method-assign]
    strategy = experiment.build_strategy(stream)
    recorder = Recorder(folder, [0], stream)
    recorder.begin({"run_id": "x", "strategy": "finetune", "scenario": SCENARIO}, {})
    log, console = timed("log", recorder), timed("console", Console("", stream, quiet=True))
    store = Store(folder / "checkpoint.safetensors")
    store.save = timed("checkpoint", store.save)  # type: ignore[method-assign]
    began, heard, saves = time.perf_counter(), 0, 0
    for event in simulate(stream, strategy, plan(stream, experiment.agenda), save_to=store, save_share=save_share):
        heard += not isinstance(event, Progress)
        saves += isinstance(event, Saved)
        if isinstance(event, TaskLearned):
            spent["learning"] += event.seconds
        elif isinstance(event, Scored):
            spent["testing"] += event.seconds
        log(event)
        console(event)
    total = time.perf_counter() - began
    parts = ("learning", "testing", "log", "console", "checkpoint", "data")
    found = {name: spent[name] for name in parts}
    rest = {"agenda and events": total - sum(found.values()), "total": total}
    return {**found, **rest, "events": float(heard), "saves": float(saves)}


def bare() -> float:
    """Return the seconds of the same fits, which nobody listens to."""
    experiment = Experiment.of(SCENARIO, "finetune", **CHANGES)
    stream = experiment.stream(DEVICE)
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    spent = 0.0
    for step in range(stream.n_steps or 0):
        experience = stream.arrival(step)
        began = time.perf_counter()
        for _ in strategy.learning(experience):
            pass
        spent += time.perf_counter() - began
    return spent


def starts(folder: Path, rounds: int) -> dict[str, float]:
    """Return the seconds from the end of ``import torch`` to the first event, by part: medians."""
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        command = [sys.executable, "-c", START, str(folder / f"start {number}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            name, _, seconds = line.rpartition(" ")
            found.setdefault(name, []).append(float(seconds))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def shown(share: float, runs: list[dict[str, float]], alone: list[float]) -> None:
    """Print the medians of runs in which saving may take that share."""
    medians = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
    training, saves = medians["learning"], int(medians.pop("saves"))
    print(f"\nsave_share {share:g}: 10 tasks, {int(medians.pop('events'))} events, {saves} saves")
    print(f"{'':<28}{'ms a task':>12}{'% of learning':>16}")
    for part, seconds in medians.items():
        print(f"{part:<28}{100 * seconds:>12.2f}{100 * seconds / training:>16.2f}")
    own = sum(medians[part] for part in ("agenda and events", "log", "console"))
    ratios = [run["learning"] / seconds for run, seconds in zip(runs, alone, strict=True)]
    print(f"agenda, events, listeners and log: {100 * own / training:.2f} % of learning")
    print(f"the same with checkpoints: {100 * (own + medians['checkpoint']) / training:.2f} % of learning")
    print(f"learning against the bare fits: {statistics.median(ratios):.3f} ({min(ratios):.3f} – {max(ratios):.3f})")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    about = machine()
    print(f"torch {about['torch']}, {about['cpu']}, {about['threads']} threads")
    with TemporaryDirectory() as name, process_memory.kept():
        runs: dict[float, list[dict[str, float]]] = {share: [] for share in SHARES}
        alone = []
        for number in range(rounds):
            for share, found in runs.items():
                found.append(shares(Path(name) / f"run {number} {share}", share))
            alone.append(bare())
        for share, found in runs.items():
            shown(share, found, alone)
        start = starts(Path(name), rounds)
        print(f"\n{'start, beyond import torch':<60}{'s':>8}")
        for part, seconds in [*start.items(), ("in all", sum(start.values()))]:
            print(f"{part:<60}{seconds:>8.2f}")
    saved("engine_share", {"runs": {str(share): found for share, found in runs.items()}, "bare": alone, "start": start})


if __name__ == "__main__":
    main()
