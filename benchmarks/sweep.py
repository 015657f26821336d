"""What sweeps gain and survive: the numbers of docs/sweeps.md.

    PYTHONPATH=. python benchmarks/sweep.py time [STEPS] | tee benchmarks/output/sweep_time.txt
    PYTHONPATH=. python benchmarks/sweep.py nodes [STEPS] | tee benchmarks/output/sweep_nodes.txt
    PYTHONPATH=. python benchmarks/sweep.py cost | tee benchmarks/output/sweep_cost.txt

``time`` runs the same 24 experiments (three strategies, four rates, two orders, of STEPS tasks, 6 unless given) four
ways: each by `run.py run`, one after the other; as a sweep with one run at a time; as a sweep with as many as there are
cores; and on Ray. ``nodes`` runs them on a Ray cluster of two nodes of one core each on this machine, one of which
(raylet and all) is killed in the middle. ``cost`` measures what a run and an event cost beside the training: bytes,
files, seconds of the recorder, of the driver and of reading a log. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
SCENARIO, STRATEGIES = "permuted_digits", ("finetune", "head_only", "replay")
RATES, ORDERS = ("5e-4", "1e-3", "2e-3", "4e-3"), 2
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> float:
    """Run a command of the engine; return its seconds."""
    began = time.perf_counter()
    typed = [sys.executable, str(ROOT / "run.py"), *arguments]
    subprocess.run(typed, check=True, capture_output=True, env=ONE_THREAD)
    return time.perf_counter() - began


def swept(steps: int, out: Path, *more: str) -> float:
    """Run the sweep; return its seconds."""
    strategies = [part for strategy in STRATEGIES for part in ("-s", strategy)]
    axes = ("--set", f"train.lr={','.join(RATES)}", "--set", f"stream.n={steps}", "--orders", str(ORDERS))
    return command("sweep", SCENARIO, *strategies, *axes, "--out", str(out), "--no-report", "--device", "cpu", *more)


def timed(steps: int, folder: Path) -> None:
    """Print the time of 24 runs, four ways."""
    alone = 0.0
    for strategy in STRATEGIES:
        for rate in RATES:
            for order in range(ORDERS):
                sets = (f"train.lr={rate}", f"stream.n={steps}", f"stream.task_order={order}")
                flags = [part for setting in sets for part in ("--set", setting)]
                out = folder / "alone" / f"{strategy}-{rate}-{order}"
                alone += command(
                    "run", SCENARIO, "-s", strategy, *flags, "--quiet", "--device", "cpu", "--out", str(out)
                )
    print(f"24 runs of {steps} tasks, one thread each", flush=True)
    print(f"{'one after the other, each by `run`':<45}{alone:7.0f} s", flush=True)
    one = swept(steps, folder / "one", "--jobs", "1")
    print(f"{'sweep, one at a time':<45}{one:7.0f} s   {one / alone:.2f} of the first", flush=True)
    for name, more in (("sweep, as many as cores", ()), ("sweep on Ray", ("--on", "ray"))):
        took = swept(steps, folder / name.replace(" ", "-"), *more)
        print(f"{name:<45}{took:7.0f} s   {took / alone:.2f} of the first, {took / one:.2f} of the second", flush=True)


def on_nodes(steps: int, folder: Path) -> None:
    """Print what becomes of 24 runs on two nodes, one of which is killed in the middle."""
    from cl_engine.sweep import cluster
    from cl_engine.sweep.config import SweepOptions
    from cl_engine.sweep.folder import SweepFolder
    from cl_engine.sweep.sweep import Sweep

    os.environ.update({**cluster.SETTINGS, "RAY_AUTH_MODE": "disabled"})
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = nodes.add_node(num_cpus=1)
    axes: dict[str, Any] = {"train.lr": [float(rate) for rate in RATES], "stream.n": [steps]}
    options = SweepOptions(scenarios=[SCENARIO], strategies=list(STRATEGIES), set=axes, orders=ORDERS)
    sweep = Sweep(options, folder, on="ray", address=nodes.address, device="cpu", quiet=True)
    began = time.perf_counter()

    def kill() -> None:
        while len(list(folder.glob("*/log.h5"))) < 10:
            time.sleep(0.2)
        nodes.remove_node(second, allow_graceful=False)
        print(f"after {time.perf_counter() - began:.0f} s, with 10 runs begun, a node is killed", flush=True)

    threading.Thread(target=kill, daemon=True).start()
    tally = sweep.run()
    took = time.perf_counter() - began
    attempts = [[noted["outcome"] for noted in SweepFolder(folder).attempts(name)] for name in tally.entries]
    print(f"{len(tally.done)} of {len(tally.entries)} runs finished in {took:.0f} s, {len(tally.failed)} failed")
    for sequence, count in Counter(", ".join(each) for each in attempts).items():
        print(f"  {count:3d} runs: {sequence}")
    nodes.shutdown()


def cost(folder: Path) -> None:
    """Print what runs cost beside training, for the plan of a large sweep."""
    print(
        f"{'tasks':>6}{'all tested':>12}{'s':>7}{'ms a task':>11}{'events':>9}{'µs an event':>13}{'log':>11}{'checkpoint':>12}"
    )
    for steps, every in ((100, 100), (1000, 100), (1000, 10), (1000, 1)):
        _one_run(folder / f"run-{steps}-{every}", steps, every)
    _driver(folder / "driven", folder / "run-100-100")


def _one_run(out: Path, steps: int, every: int) -> None:
    from cl_engine.events import Event
    from cl_engine.experiment import Experiment

    settings: dict[str, Any] = {
        "stream.n": steps,
        "stream.samples_per_class": 6,
        "stream.test_samples_per_class": 5,
        "train.epochs": 1,
        "agenda.evaluate_every": every,
        "agenda.evaluate_ahead": 0,
        "net.hidden": [32],
    }
    counted: Counter[str] = Counter()

    def count(event: Event) -> None:
        counted[type(event).__name__] += 1

    began = time.perf_counter()
    experiment = Experiment.of(SCENARIO, "finetune", (0,), **settings, **{"stream.setting": "domain"})
    experiment.run(out, device="cpu", listeners=lambda stream: [count])
    took, events = time.perf_counter() - began, sum(counted.values())
    log, checkpoint = ((out / name).stat().st_size for name in ("log.h5", "checkpoint.safetensors"))
    print(
        f"{steps:>6}{f'every {every}':>12}{took:>7.1f}{1000 * took / steps:>11.1f}{events:>9}{1e6 * took / events:>13.0f}"
        f"{log:>11,}{checkpoint:>12,}",
        flush=True,
    )


def _driver(folder: Path, finished: Path, count: int = 10_000) -> None:
    """Print what the driver takes for each of many runs, at a place where every run is finished at once."""
    from cl_engine.sweep.axes import axes_of
    from cl_engine.sweep.backend import Job, Outcome
    from cl_engine.sweep.combinations import expanded
    from cl_engine.sweep.config import SweepOptions
    from cl_engine.sweep.driver import Driver
    from cl_engine.sweep.folder import SweepFolder
    from cl_engine.sweep.search import points

    class AtOnce:
        room = 1

        def start(self, job: Job) -> None:
            self.room = 0
            (job.folder / "log.h5").hardlink_to(finished / "log.h5")
            self.name = job.name

        def wait(self, seconds: float) -> list[Any]:
            self.room = 1
            return [Outcome(self.name, "finished")]

        def stop(self) -> None: ...
        def close(self) -> None: ...

    rates = [round(1e-6 * k, 6) for k in range(1, count + 1)]
    options = SweepOptions(scenarios=[SCENARIO], strategies=["finetune"], set={"train.lr": rates})
    marks = [time.perf_counter()]
    runs = expanded(options, points(options, axes_of(options.set)))
    marks.append(time.perf_counter())
    for _ in range(2):  # to its end, and once more when everything is done
        with SweepFolder(folder) as held:
            driver = Driver(options, held, AtOnce())
            driver.add(runs)
            marks.append(time.perf_counter())
            driver.drive()
            marks.append(time.perf_counter())
    names = ("checked", "entered", "driven", "found again", "driven again")
    for name, one, other in zip(names, marks, marks[1:], strict=False):
        print(f"{count} runs {name}: {other - one:.1f} s, {1000 * (other - one) / count:.2f} ms each", flush=True)
    print(f"sweep.json: {(folder / 'sweep.json').stat().st_size:,} bytes")


def main() -> None:
    """Run what was asked for."""
    what, *more = sys.argv[1:] or ["time"]
    steps = int(more[0]) if more else 6
    with TemporaryDirectory() as folder:
        if what == "time":
            timed(steps, Path(folder))
        elif what == "nodes":
            on_nodes(steps, Path(folder))
        else:
            cost(Path(folder))


if __name__ == "__main__":
    main()
