"""What a save costs as a run grows: the log by simulated events, the checkpoint by skills that are added.

    PYTHONPATH=. python benchmarks/saving.py [TASKS] | tee benchmarks/output/saving.txt

The recorder is given the events of a run that tests all tasks after each (R in full), with nothing trained: milliseconds of
a save at tasks 10, 100, 1,000 and 5,000 (or up to TASKS), medians of the ten saves before. A save that publishes and one
that goes to the journal are told apart. The state is a bank of skills of 21,840 weights, one more a task, beside a
backbone of 11 million weights that stays as it is; the same saved whole each time (`checkpoint.save`) is beside it.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.interleaved import machine, saved
from cl_engine import events
from cl_engine.checkpoints import file as checkpoint
from cl_engine.checkpoints.store import Store
from cl_engine.core.bank import Bank
from cl_engine.loggers.recorder import Recorder

MARKS = (10, 100, 1_000, 5_000)
WEIGHTS, BACKBONE = 21_840, 11_000_000
ROWS = 1_000


class Tasks:
    """What a recorder asks of a stream."""

    def __init__(self, n: int) -> None:
        self.n_tasks = self.n_steps = n

    def name_of(self, task_id: int) -> str:
        return f"task {task_id}"


def row(recorder: Recorder, step: int, seeds: int, right: torch.Tensor) -> None:
    """Let the recorder hear what happens in one experience, up to its save."""
    recorder(events.TaskStarted(step=step, task_id=step, rows=ROWS))
    for epoch in range(5):
        where: dict[str, Any] = {"step": step, "task_id": step, "fit": 0, "epoch": epoch, "epochs": 5}
        recorder(events.EpochEnded(**where, loss=(0.5,) * seeds, flops=1e6, seconds=0.1))
    recorder(events.TaskLearned(step=step, task_id=step, memory={"net": 1000}, flops=1e6, seconds=0.5))
    here: dict[str, int] = {"step": step, "evaluation": step}
    rows = [(step * 7 + task) % len(right) for task in range(step + 1)]
    counts = right[rows].numpy()
    if step:
        old, total = np.arange(step), np.full(step, ROWS)
        recorder(events.ScoresReused(**here, task_ids=old, n_correct=counts[:-1], n_total=total))
    recorder(events.Evaluated(**here, task_id=step, n_correct=tuple(counts[-1].tolist()), n_total=ROWS))
    scores = dict.fromkeys(("acc", "bwt", "fwt", "forgetting"), (0.9,) * seeds)
    recorder(events.Scored(step=step, evaluation=step, seconds=0.1, **scores))


def logs(tasks: int, seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Return, for each mark, what a save of the log costs; a run whose tasks take a second each is imagined."""
    folder.mkdir()
    right = torch.randint(ROWS // 2, ROWS, (997, seeds))
    recorder, found, took = Recorder(folder, list(range(seeds)), Tasks(tasks)), [], []  # type: ignore[arg-type]
    recorder.begin({"run_id": "x", "strategy": "none", "scenario": "none"}, {})
    heard = 0.0
    for step in range(tasks):
        began = time.perf_counter()
        row(recorder, step, seeds, right)
        heard += time.perf_counter() - began
        recorder.published -= 1.0
        before, began = recorder.path.stat().st_mtime_ns if recorder.path.exists() else 0, time.perf_counter()
        recorder(events.Saving(step=step, cursor=3 * step))
        took.append((time.perf_counter() - began, recorder.path.stat().st_mtime_ns != before))
        if step + 1 in MARKS:
            journaled = [seconds for seconds, published in took[-10:] if not published]
            last = [seconds for seconds, published in took if published][-1]
            every = sum(seconds for seconds, _ in took) / len(took)
            found.append(
                {
                    "tasks": step + 1,
                    "seeds": seeds,
                    "journaled": statistics.median(journaled) if journaled else None,
                    "published": last,
                    "mean": every,
                    "rows": heard / len(took),
                    "bytes": recorder.working.stat().st_size,
                }
            )
    recorder.close()
    return found


def checkpoints(tasks: int, folder: Path) -> list[dict[str, Any]]:
    """Return, for each mark, what a checkpoint costs."""
    folder.mkdir()
    store, skills, found, took = Store(folder / "checkpoint.safetensors"), Bank.empty(1, (WEIGHTS,)), [], []
    backbone = torch.randn(1, BACKBONE)
    for task in range(tasks):
        skills.put(task, torch.randn(1, WEIGHTS))
        state = {"skills": skills, "backbone": backbone}
        began = time.perf_counter()
        size = store.save(state)
        took.append((time.perf_counter() - began, size))
        if task + 1 in MARKS:
            began = time.perf_counter()
            whole = checkpoint.save(folder / "whole", state)
            seconds = time.perf_counter() - began
            last = took[-9:]
            found.append(
                {
                    "tasks": task + 1,
                    "seconds": statistics.median(seconds for seconds, _ in last),
                    "bytes": statistics.median(size for _, size in last),
                    "whole_seconds": seconds,
                    "whole_bytes": whole,
                    "on_disk": sum(path.stat().st_size for path in folder.iterdir()) - whole,
                }
            )
            (folder / "whole").unlink()
    return found


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    print(f"torch {torch.__version__}, {machine()['cpu']}, {torch.get_num_threads()} threads")
    content: dict[str, Any] = {"log": [], "checkpoint": []}
    with TemporaryDirectory() as name:
        print("\nlog, R in full: milliseconds of a save (tasks of a second each)")
        print(f"{'tasks':>8}{'seeds':>7}{'journaled':>12}{'published':>12}{'mean':>9}{'events':>9}{'log, MB':>10}")
        for seeds in (1, 10):
            for at in logs(tasks, seeds, Path(name) / f"log {seeds}"):
                content["log"].append(at)
                ms = [at[key] and 1e3 * at[key] for key in ("journaled", "published", "mean", "rows")]
                text = "".join(
                    f"{'–' if value is None else f'{value:.1f}':>{w}}"
                    for value, w in zip(ms, (12, 12, 9, 9), strict=True)
                )
                print(f"{at['tasks']:>8,}{seeds:>7}{text}{at['bytes'] / 1e6:>10.1f}", flush=True)
        print("\ncheckpoint: skills of 21,840 weights beside a backbone of 11 million")
        print(f"{'skills':>8}{'ms':>10}{'kB':>10}{'whole, ms':>12}{'whole, kB':>12}{'on disk, kB':>14}")
        for at in checkpoints(tasks, Path(name) / "checkpoint"):
            content["checkpoint"].append(at)
            own = f"{1e3 * at['seconds']:>10.1f}{at['bytes'] / 1e3:>10,.0f}"
            whole = f"{1e3 * at['whole_seconds']:>12.0f}{at['whole_bytes'] / 1e3:>12,.0f}{at['on_disk'] / 1e3:>14,.0f}"
            print(f"{at['tasks']:>8,}{own}{whole}", flush=True)
    saved("saving", content)


if __name__ == "__main__":
    main()
