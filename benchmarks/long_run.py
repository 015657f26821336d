"""Long runs: what a task costs at the beginning and at the end of thousands. The table and the picture of docs/robustness.md.

    PYTHONPATH=. python benchmarks/long_run.py [TASKS] | tee benchmarks/output/long_run.txt

One run a setting, of TASKS tasks (5,000 unless said), end to end through the recorder to a log, which is then reported on; then a
week's worth of events through the recorder alone.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from cl_engine import events
from cl_engine.analysis.report.page import write_report
from cl_engine.experiment import Experiment
from cl_engine.loggers.recorder import Recorder
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario

PARTS = 10  # of a run, each a row of the table
PICTURE = Path(__file__).parents[1] / "docs" / "long_run.png"
TINY: dict[str, Any] = {
    "stream": {"name": "permuted", "source": "digits", "samples_per_class": 10, "test_samples_per_class": 5},
    "net": {"name": "mlp", "hidden": [16]},
    "train": {"epochs": 1, "batch": 50, "optimizer": "adam", "lr": 0.01},
}
SETTINGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "head_only, all tasks tested at the end": ("head_only", {"setting": "task"}, {"evaluate_every": 0}),
    "finetune, all tasks tested at the end": ("finetune", {"setting": "domain"}, {"evaluate_every": 0}),
    "head_only, all tasks tested every 500": ("head_only", {"setting": "task"}, {"evaluate_every": 500}),
}
EVENTS_A_SECOND = 5  # of a run that goes on for a week: a pass, or a number that a strategy tells
WEEK = 7 * 24 * 3600 * EVENTS_A_SECOND


class Watch:
    """Notes, after each experience, the time computed, the memory and the file descriptors of this process."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.rows: list[tuple[float, int, int]] = []

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Scored) and event.step >= 0:
            self.rows.append((time.process_time(), self.process.memory_info().rss, self.process.num_fds()))

    @property
    def parts(self) -> Iterator[tuple[int, float, float, int]]:
        """Tasks learned, milliseconds a task, memory in MB and descriptors, for each part of the run."""
        seconds, memory, descriptors = np.array(self.rows).T
        for part in np.array_split(np.arange(1, len(seconds)), PARTS):
            each = 1000 * (seconds[part[-1]] - seconds[part[0] - 1]) / len(part)
            yield int(part[-1]) + 1, each, memory[part].max() / 1e6, int(descriptors[part].max())


def run(strategy: str, stream: dict[str, Any], agenda: dict[str, Any], tasks: int, folder: Path) -> Watch:
    """Run a setting; return what was noted."""
    tables = {**TINY, "stream": {**TINY["stream"], **stream, "n": tasks}, "agenda": {"save_every": 100, **agenda}}
    watch = Watch()
    Experiment.of(Scenario.of("long", tables), strategy).run(folder, device="cpu", listeners=lambda stream: [watch])
    return watch


def week(folder: Path, count: int) -> str:
    """Put a week's worth of passes through the recorder; return a sentence about what it took."""
    stream = Experiment.of(Scenario.of("long", {**TINY, "stream": {**TINY["stream"], "n": 100}}), "finetune").stream()
    folder.mkdir()
    recorder = Recorder(folder, [0], stream)
    texts = {"strategy": "none", "scenario": "week", "run_id": "week"}
    recorder.begin(texts, {"experiment": "{}"})
    began, least, most = time.process_time(), _held(), 0
    for number in range(count):
        where = {"step": number // 1000, "task_id": 0, "fit": 0, "epoch": number % 1000, "epochs": 1000}
        recorder(events.EpochEnded(**where, loss=(0.5,), seconds=0.2))
        if number % 50_000 == 0:
            most = max(most, _held())
    recorder.publish("finished")
    recorder.close()
    seconds, size = time.process_time() - began, (folder / "log.h5").stat().st_size
    found = open_run(folder).table("epochs")
    assert len(found) == count
    return (
        f"a week's worth of events ({count:,}, {EVENTS_A_SECOND} a second) through the recorder: {seconds:.0f} s of computing, "
        f"{1e6 * seconds / count:.0f} µs an event, log {size / 1e6:.0f} MB, memory at most {most / 1e6:.0f} MB "
        f"({(most - least) / 1e6:+.0f} MB)"
    )


def _held() -> int:
    return int(psutil.Process().memory_info().rss)


def picture(found: dict[str, Watch], path: Path) -> None:
    """Draw milliseconds a task, memory and descriptors against tasks."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for name, watch in found.items():
        tasks, each, memory, descriptors = zip(*watch.parts, strict=True)
        for ax, values in zip(axes, (each, memory, descriptors), strict=True):
            ax.plot(tasks, values, marker=".", label=name)
    for ax, title in zip(axes, ("milliseconds a task", "memory, MB", "file descriptors"), strict=True):
        ax.set(title=title, xlabel="tasks learned", ylim=(0, None))
    axes[0].legend(fontsize=7, loc="lower left")
    figure.savefig(path, dpi=130)


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    torch.set_num_threads(1)
    print(f"{tasks} tasks; Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores\n")
    found: dict[str, Watch] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, (name, (strategy, stream, agenda)) in enumerate(SETTINGS.items()):
            folder = Path(place) / str(number)
            began = time.perf_counter()
            found[name] = run(strategy, stream, agenda, tasks, folder)
            took = time.perf_counter() - began
            log = (folder / "log.h5").stat().st_size
            saved = sum(path.stat().st_size for path in folder.rglob("checkpoint*") if path.is_file())
            began = time.perf_counter()
            page = write_report([open_run(folder)], folder / "report.html")
            print(f"{name}: {took:.0f} s; log {log / 1e6:.1f} MB, checkpoint {saved / 1e6:.1f} MB", end="; ")
            print(f"report {page.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - began:.0f} s")
            print(f"{'tasks':>8}{'ms a task':>12}{'memory, MB':>12}{'descriptors':>13}")
            for learned, each, memory, descriptors in found[name].parts:
                print(f"{learned:>8}{each:>12.1f}{memory:>12.0f}{descriptors:>13}")
            print(flush=True)
        print(week(Path(place) / "week", WEEK * tasks // 5000))
        print(f"the most memory of all: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")
    if tasks >= 1000:
        picture(found, PICTURE)


if __name__ == "__main__":
    main()
