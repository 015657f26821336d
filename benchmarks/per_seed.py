"""Time of ten seeds with a sequence of tasks each, beside ten seeds with one sequence, and a seed by itself.

    PYTHONPATH=. python benchmarks/per_seed.py [ROUNDS] | tee benchmarks/output/per_seed.txt

Permuted MNIST of L2 Init (scenario plasticity_permuted_mnist): two tasks are learned, without tests; what is timed is the second,
its rows and all. Contestants take turns, medians and quartiles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.interleaved import machine, table, timed
from cl_engine.engine.agenda import Learn
from cl_engine.engine.loop import simulate
from cl_engine.events import TaskStarted
from cl_engine.experiment import Experiment

STEPS = 625


def learning(seeds: int, per_seed: bool) -> Callable[[], object]:
    """Return what learns one more task."""
    experiment = Experiment.of(
        "plasticity_permuted_mnist", "finetune", tuple(range(seeds)), **{"stream.per_seed": per_seed}
    )
    stream = experiment.stream()
    events = simulate(stream, experiment.build_strategy(stream), map(Learn, range(500)), online=0)
    next(event for event in events if isinstance(event, TaskStarted))
    return lambda: next(event for event in events if isinstance(event, TaskStarted))  # up to the start of the next


def main() -> None:
    contestants = {
        "ten seeds, one sequence": learning(10, False),
        "ten seeds, a sequence each": learning(10, True),
        "one seed": learning(1, True),
    }
    times = timed(contestants, rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 9)
    print(machine())
    print("\n".join(table("a task of 625 steps", times, STEPS, "ten seeds, one sequence")))


if __name__ == "__main__":
    main()
