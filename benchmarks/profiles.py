"""Where the time of a task goes as there are more: a profile of fifty tasks before the 100th and before the 990th.

    PYTHONPATH=. python benchmarks/profiles.py [STRATEGY …] | tee benchmarks/output/profiles.txt

The runs are those of ``per_task.py`` (saves included), first without the profiler, for the medians of learning and testing, and
then with it, which makes short functions look longer than they are. Functions are those whose own time grew most.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import per_task
from benchmarks.interleaved import machine
from cl_engine.events import Event, Scored, TaskLearned, TaskStarted

TASKS, WIDTH, AT, SHOWN = 1_000, 50, (50, 940), 15


def run(strategy: str, listener: Callable[[Event], None]) -> None:
    """Run the tasks, all tested after each where a strategy says which answers cannot have changed."""
    with TemporaryDirectory() as name:
        experiment, _, _ = per_task.experiment_of(strategy, TASKS, Path(name))
        experiment.run(Path(name) / "run", device="cpu", listeners=lambda stream: [listener])


def medians(strategy: str) -> None:
    """Print what learning and testing take at both places."""
    learning: dict[int, float] = {}
    testing: dict[int, float] = {}

    def hear(event: Event) -> None:
        if isinstance(event, TaskLearned):
            learning[event.step] = 1e3 * event.seconds
        elif isinstance(event, Scored):
            testing[event.step] = 1e3 * event.seconds

    run(strategy, hear)
    for begin in AT:
        learned, tested = (statistics.median(x[k] for k in range(begin, begin + WIDTH)) for x in (learning, testing))
        print(f"{strategy}, tasks {begin:>3} to {begin + WIDTH}: learning {learned:.2f} ms, testing {tested:.2f} ms")


def profiled(strategy: str) -> None:
    """Print the functions that take longer at the second place, in ms a task."""
    profiles = [cProfile.Profile() for _ in AT]

    def hear(event: Event) -> None:
        if isinstance(event, TaskStarted):
            for begin, profile in zip(AT, profiles, strict=True):
                if event.step == begin:
                    profile.enable()
                elif event.step == begin + WIDTH:
                    profile.disable()

    run(strategy, hear)
    early, late = map(_own, profiles)
    grown = sorted(late, key=lambda name: early[name] - late[name])
    heads = [f"{begin} to {begin + WIDTH}" for begin in AT]
    print(f"{'own time, ms a task':<60}{heads[0]:>10}{heads[1]:>12}")
    for name in grown[:SHOWN]:
        print(f"  {name:<58}{1e3 * early[name] / WIDTH:>10.3f}{1e3 * late[name] / WIDTH:>12.3f}")
    print(f"  {'all':<58}{1e3 * sum(early.values()) / WIDTH:>10.3f}{1e3 * sum(late.values()) / WIDTH:>12.3f}\n")


def _own(profile: cProfile.Profile) -> Counter[str]:
    """Return the seconds that functions took, without those they called."""
    found: Counter[str] = Counter()
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        found[f"{Path(file).name}:{name}"] += own
    return found


def main() -> None:
    torch.set_num_threads(1)
    print(f"{machine()['cpu']}, one thread, torch {torch.__version__}\n")
    for strategy in sys.argv[1:] or ["head_only", "skill_recall"]:
        medians(strategy)
        profiled(strategy)


if __name__ == "__main__":
    main()
