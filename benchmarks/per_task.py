"""What a task costs at the 10th, the 100th and the 1,000th: seconds, memory, log and checkpoint, for every strategy.

    PYTHONPATH=. python benchmarks/per_task.py [TASKS [SECONDS [ROWS [STRATEGY …]]]] | tee benchmarks/output/per_task.txt
    PYTHONPATH=. python benchmarks/per_task.py 400 60 2 upkeep | tee benchmarks/output/per_task_upkeep.txt

Permuted MNIST with ROWS (2) training and test rows a class, and a net of 784-16-10, so that training does not hide what grows.
Every strategy that is found has a process of its own, TASKS tasks (1,000) and SECONDS of CPU time (20), three times (medians are
shown), or once with ``--once``; one that is slower, or of which every task costs more than the one before, once, as far as it
gets. All tasks are tested after each where a strategy says which answers cannot have changed, the new one alone otherwise:
testing everything after everything is quadratic by definition.

CPU seconds of a task and of its save are means of the tasks around the mark, a tenth of those before it to each side and at
least fifty (medians would hide what is paid now and then); at the first mark, of the first ten. Where there is a GPU it is
used, and seconds are those of the clock. Saving may take the whole of the run. Resident memory and the state's own bytes are
those after the mark and counted from the hundredth task, once what lies idle has been given back to the system, as runs do
every few seconds.

``STRATEGY+UPKEEP`` is a strategy that wears upkeep: with one head, an optimiser that goes on, and five steps a task; ``upkeep``
stands for `finetune` with each, after one with none.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.interleaved import machine, saved
from cl_engine.events import Event, Saved, Saving, TaskLearned, TaskStarted
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.runs.run_folder import CHECKPOINT

SCENARIO = """
[stream]
name = "permuted"
source = "mnist"
setting = "task"
n = {tasks}
samples_per_class = {samples}
test_samples_per_class = {samples}
[net]
name = "mlp"
hidden = [16]
[train]
epochs = 1
batch = 20
optimizer = "adam"
lr = 0.01
[agenda]
evaluate_every = {every}
save_share = 1.0
[strategy.piggyback]
mask_lr = 0.01
"""
OWN = {
    "skill_recall": {"max_passes": 10},
    "replay": {"samples": 200},
    "compose": {"net.hidden": [16, 16, 16]},
}
UPKEEP = [
    "",
    "continual_backprop?rate=1e-3&maturity=10",
    "cpr?period=100",
    "l2_init?strength=0.01",
    "redo?period=100",
    "regrama?period=100",
    "shrink_perturb",
    "upgd?sigma=0.01",
]
KEPT_UP = {"stream.setting": "domain", "train.keep_optimizer": True, "train.batch": 4}
WIDTH, AT = 50, (10, 100, 1_000)
BEYOND = 100  # tasks after the last mark
ROUNDS = 3  # of a strategy that gets through all tasks; medians are shown


def clock() -> float:
    """Return the seconds of CPU time so far, or those of the clock once a GPU has done what it was given."""
    import torch

    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Enough(Exception):
    """The budget of time is spent."""


class Watch:
    """Hears the events of a run, and notes what each task takes."""

    def __init__(self, folder: Path, budget: float) -> None:
        self.folder, self.until = folder, clock() + budget
        self.began, self.saving, self.tasks = 0.0, 0.0, []  # type: ignore[var-annotated]

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        now = clock()
        if isinstance(event, TaskStarted):
            self._close(now)
            if now > self.until:
                raise Enough
            self.began, self.saving = now, 0.0
        elif isinstance(event, TaskLearned):
            self.state = sum(event.memory.values())
        elif isinstance(event, Saving):
            self.save_began, self.save_wall = now, time.perf_counter()
        elif isinstance(event, Saved):
            self.saving = now - self.save_began
            self.saved = {"save_wall": time.perf_counter() - self.save_wall, "written": event.bytes}

    def _close(self, now: float) -> None:
        if not self.began:
            return
        if len(self.tasks) + 1 in AT or (len(self.tasks) + 1) % WIDTH == 0:
            ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = {name: (self.folder / name).stat().st_size for name in ("log.h5",)}
        self.tasks.append(
            {
                "seconds": now - self.began - self.saving,
                "save": self.saving,
                "rss": pages * 4096,
                "state": self.state,
                "log": files["log.h5"],
                "disk": sum(file.stat().st_size for file in self.folder.glob(f"{Path(CHECKPOINT).stem}*")),
                **self.saved,
            }
        )


def experiment_of(strategy: str, tasks: int, folder: Path, samples: int = 2) -> tuple[Experiment, bool, bool]:
    """Return the run, whether scores of old tasks are taken over, and whether a task costs more with every one before it."""
    scenario, (strategy, worn, upkeep) = folder / "per_task.toml", strategy.partition("+")
    own = {**OWN.get(strategy, {}), **({**KEPT_UP, "train.upkeep": upkeep} if worn else {})}
    scenario.write_text(SCENARIO.format(tasks=2, every=1, samples=samples))
    first = Experiment.of(scenario, strategy, **own)
    learner = first.build_strategy(first.stream())
    learner.state = learner.start()
    reused = learner.fingerprint(0) is not None
    scenario.write_text(SCENARIO.format(tasks=tasks, every=int(reused), samples=samples))
    return Experiment.of(scenario, strategy, **own), reused, learner.cost == "growing"


def one(strategy: str, tasks: int, budget: float, samples: int = 2) -> list[dict[str, Any]]:
    """Return what each task took; called in a process of its own."""
    import torch

    torch.set_num_threads(1)
    gc.collect()  # a look through all that torch's modules hold, .2 s, shall not fall on a task
    with TemporaryDirectory() as name:
        experiment, reused, growing = experiment_of(strategy, tasks + BEYOND + 1, Path(name), samples)
        watch = Watch(Path(name) / "run", budget)
        with contextlib.suppress(Enough):
            experiment.run(Path(name) / "run", listeners=lambda stream: [watch])
        return [{"reused": reused, "growing": growing}, *watch.tasks]


def mark(found: list[dict[str, Any]], at: int) -> dict[str, Any]:
    """Return what a task costs there: means over the tasks around it."""
    wide = max(WIDTH, at // 10)
    around = found[max(0, at - wide) : at + wide] if at > WIDTH else found[:at]
    means = {
        key: sum(task[key] for task in around) / len(around) for key in ("seconds", "save", "save_wall", "written")
    }
    return {"tasks": at, **found[at - 1], **means}


def line(name: str, about: dict[str, Any], here: dict[str, Any], base: dict[str, Any]) -> str:
    """Return a line of the table."""
    ratio = f"{here['seconds'] / base['seconds']:.2f}" if here["tasks"] > base["tasks"] else ""
    kind = "grows" if about["growing"] else "R in full" if about["reused"] else ""
    grown = (here["rss"] - base["rss"]) / 2**20 if here["tasks"] > base["tasks"] else 0.0
    own = (here["state"] - base["state"]) / 2**20 if here["tasks"] > base["tasks"] else 0.0
    ms = f"{1e3 * here['seconds']:>9.1f}{ratio:>7}{1e3 * here['save']:>8.1f}{1e3 * here['save_wall']:>9.1f}"
    sizes = f"{here['written'] / 1e3:>11,.0f}{here['disk'] / 1e3:>10,.0f}{here['log'] / 1e3:>9,.0f}"
    return f"{name}{kind:<10}{here['tasks']:>6,}{ms}{grown:>9.1f}{own:>9.1f}{sizes}"


def in_a_process(strategy: str, tasks: int, budget: float, samples: int) -> list[dict[str, Any]]:
    """Return what `one` returns, from a process of its own."""
    code = f"import json; from benchmarks.per_task import one; print(json.dumps(one({strategy!r}, {tasks}, {budget}, {samples})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{strategy} failed: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def marks_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a task costs at each mark that was reached, and at the end of what did not reach the last."""
    reached = len(found) // WIDTH * WIDTH
    marks = [mark(found, at) for at in AT if at <= len(found)]
    return [*marks, *([mark(found, reached)] if marks[-1]["tasks"] < min(reached, AT[-1]) else [])]


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--once"]
    tasks, budget = int(words[0]) if words else 1_000, float(words[1]) if len(words) > 1 else 20.0
    samples = int(words[2]) if len(words) > 2 else 2
    names = words[3:] or sorted(plugins.names("strategies"))
    if names == ["upkeep"]:
        names = [f"finetune+{upkeep}" for upkeep in UPKEEP]
    wide = max(14, 1 + max(map(len, names)))
    print(f"{tasks} tasks, {samples} rows a class, up to {budget} s of each strategy: {', '.join(names)}")
    print(
        f"{machine()['cpu']}, one thread; times in ms of CPU, saves also by the clock; memory and state since task 100 in MB; "
        "files in kB"
    )
    head = f"{'strategy':<{wide}}{'':<10}{'task':>6}{'a task':>9}{'/100th':>7}{'save':>8}{'clock':>9}{'memory':>9}{'state':>9}"
    print(head + f"{'written':>11}{'on disk':>10}{'log':>9}")
    results: dict[str, Any] = {}
    for name in names:
        rounds: list[list[dict[str, Any]]] = []
        about, found = {}, []  # type: ignore[var-annotated]
        while len(rounds) < (1 if "--once" in sys.argv else ROUNDS):
            about, *found = in_a_process(name, tasks, budget, samples)
            rounds.append(marks_of(found))
            if len(found) < tasks:
                break
        marks = [
            {key: statistics.median(one[key] for one in same) for key in same[0]} for same in zip(*rounds, strict=True)
        ]
        results[name] = {**about, "tasks": len(found), "marks": marks, "rounds": rounds}
        base = next((each for each in marks if each["tasks"] == AT[1]), marks[-1])
        for here in marks:
            print(line(f"{name:<{wide}}", about, here, base), flush=True)
        saved("per_task", {"budget": budget, "rows": samples, "results": results})


if __name__ == "__main__":
    main()
