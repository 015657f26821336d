"""A run of 5,000 tasks, killed three times at random and taken up again, beside one that was not.

    PYTHONPATH=. python benchmarks/killed.py [TASKS [UPKEEP …]] | tee benchmarks/output/killed.txt

Permuted MNIST with two rows a class and one head, the optimiser kept throughout, with each upkeep in turn; needs MNIST under
$CL_DATA_ROOT. Runs are started by the command line; SIGKILL comes at random within a second of a save that is drawn too, and the
same command goes on. Both ends are compared dataset by dataset (times aside), and leaf by leaf of the last state, bit for bit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.interleaved import machine
from cl_engine.checkpoints.file import flat
from cl_engine.checkpoints.store import Store
from cl_engine.results.run import open_run
from cl_engine.runs.run_folder import CHECKPOINT
from cl_engine.testing.logs import equal, facts

ROOT = Path(__file__).parents[1]
KILLS = 3
LONGEST = 1.0  # seconds, from a save to the kill at most
# what remembers most, and what draws at every step
UPKEEP = ["continual_backprop?rate=1e-3&maturity=10", "upgd?sigma=0.01"]
ENDS, PARTS = ("whole", "out"), ("optimizer", "upkeep")
SCENARIO = """
[stream]
name = "permuted"
source = "mnist"
setting = "domain"
n = {tasks}
samples_per_class = 2
test_samples_per_class = 2
[net]
name = "mlp"
hidden = [16, 16]
[train]
epochs = 1
batch = 10
optimizer = "adam"
lr = 1e-3
keep_optimizer = true
upkeep = "{upkeep}"
[agenda]
evaluate_every = 20
window = 5
window_sampled = 2
online = true
diagnose_every = 50
"""


class Runs:
    """The runs of one experiment, each a process of its own.

    Attributes:
        command: what starts one, but for its folder.
    """

    def __init__(self, scenario: Path) -> None:
        self.command = [sys.executable, str(ROOT / "run.py"), "run", str(scenario), "-s", "finetune", "--quiet"]

    def started(self, out: Path) -> subprocess.Popen[str]:
        """Start a run, or go on with it."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        said: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*self.command, "--out", str(out)], env=environment, **said)

    @staticmethod
    def ended(run: subprocess.Popen[str]) -> None:
        """Wait until a run has ended as it should."""
        said = run.communicate()[1]
        if run.returncode:
            raise SystemExit(said)

    def killed(self, out: Path, experiences: int, delay: float) -> int:
        """Kill a run so many seconds after it has saved so many experiences; return how many are saved then."""
        run, known = self.started(out), 0
        while run.poll() is None:
            time.sleep(0.1)
            if saved(out) == known:
                continue
            known = saved(out)
            if int(checkpoint(out)["step"]) + 1 >= experiences:
                time.sleep(delay)
                run.send_signal(signal.SIGKILL)
                run.communicate()
                open_run(out)  # whatever was going on, there is a log that can be read
                return int(checkpoint(out)["step"]) + 1
        raise SystemExit(run.communicate()[1] or "a run ended before it was killed")


def saved(out: Path) -> int:
    """Return when a run was saved last; 0 if it never was, or just puts a new checkpoint in the place of the old one."""
    with suppress(FileNotFoundError):
        return (out / CHECKPOINT).stat().st_mtime_ns
    return 0


def checkpoint(out: Path) -> dict[str, Any]:
    """Return what a run would go on from."""
    found = Store(out / CHECKPOINT).load()
    assert found is not None
    return found


def main(tasks: int = 5_000, *upkeeps: str) -> None:
    """Print a row for each upkeep."""
    draw = random.Random(0)
    print(f"{tasks:,} tasks, one seed, {KILLS} kills of each run; {machine()['cpu']}, one thread")
    print("experiences saved at each kill; datasets of the log, and leaves of the last state, equal bit for bit")
    print(f"{'':<44}{'killed at':>22}{'datasets':>11}{'optimizer':>11}{'upkeep':>9}{'all state':>11}")
    for upkeep in upkeeps or UPKEEP:
        with TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "killed.toml").write_text(SCENARIO.format(tasks=tasks, upkeep=upkeep))
            runs = Runs(folder / "killed.toml")
            undisturbed = runs.started(folder / "whole")
            after = sorted(draw.sample(range(tasks * 9 // 10), KILLS))
            at = [runs.killed(folder / "out", count, draw.uniform(0, LONGEST)) for count in after]
            runs.ended(runs.started(folder / "out"))
            runs.ended(undisturbed)
            print(row(upkeep, at, folder), flush=True)


def row(upkeep: str, at: list[int], folder: Path) -> str:
    """Return what became of a killed run, beside the undisturbed one."""
    logs, states = (
        [facts(folder / end / "log.h5") for end in ENDS],
        [flat(checkpoint(folder / end)["strategy"]) for end in ENDS],
    )
    own = {part: [{p: leaf for p, leaf in state.items() if p.startswith(part)} for state in states] for part in PARTS}
    counts = [agreeing(*logs), *(agreeing(*pair) for pair in own.values()), agreeing(*states)]
    return f"{upkeep:<44}{', '.join(map(str, at)):>22}" + "".join(f"{said:>12}" for said in counts)


def agreeing(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return how many entries are equal, of all that either has."""
    every = one.keys() | other.keys()
    same = (name for name in one.keys() & other.keys() if equal(one[name], other[name]))
    return f"{sum(1 for _ in same)} of {len(every)}"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
