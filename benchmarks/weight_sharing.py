"""Weights shared by learned assignment: what it finds that was planted, how accurate it is, and what it uses again.

    PYTHONPATH=. python benchmarks/weight_sharing.py [PART …] | tee benchmarks/output/weight_sharing.txt

Parts: planted, accuracy, continual; all need the files of MNIST, and but for ``planted`` those of Fashion-MNIST. Five seeds;
means with the deviation of a sample, accuracy on test rows after the last task.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.modules.events import SharingLearned
from cl_engine.nn.target import quality

SEEDS = (0, 1, 2, 3, 4)


def shown(values: Any) -> str:
    """Return mean and sample deviation over seeds."""
    values = np.asarray(values, dtype=float)
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def run(scenario: str, **options: Any) -> tuple[Tensor, np.ndarray, np.ndarray, Tensor]:
    """Return accuracy of each task at the end ``[T, S]``; sets ``[T, L, S]``, entropies; and accuracy at once ``[T, S]``."""
    experiment = Experiment.of(scenario, "weight_sharing", SEEDS, **{"agenda.evaluate_every": 0, **options})
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    told: dict[int, list[SharingLearned]] = {}
    once: list[Tensor] = []
    for event in simulate(stream, learner, plan(stream, experiment.agenda)):
        if isinstance(event, SharingLearned):
            told.setdefault(event.task_id, []).append(event)
        if isinstance(event, TaskLearned):
            once.append(score(stream, learner, event.task_id))
    sets = np.array([[event.set for event in told[task]] for task in sorted(told)])
    spread = np.array([[event.entropy for event in told[task]] for task in sorted(told)])
    return torch.stack([score(stream, learner, task) for task in sorted(told)]), sets, spread, torch.stack(once)


def score(stream: Any, learner: Any, task: int) -> Tensor:
    rows = stream.test(task)
    return quality(learner.target, learner.predict(rows.x, task), rows.y)


def line(name: str, found: Any, more: str = "", seconds: float = 0.0) -> None:
    print(f"{name:<30}{shown(found.mean(dim=0)):<18}{more:<52}{seconds:>5.0f}", flush=True)


def planted() -> None:
    """Compare learned sharing with all and none, where two tasks are one and a third contradicts them."""
    print(
        "\nweight_sharing_planted: two tasks with other rows and the same labels, one whose labels are shifted; all layers are"
    )
    print(
        "learned, the head too; P(same set), mean over layers, of the like two and of the contradictory pairs; CPU s of all"
    )
    print(f"{'':<30}{'accuracy':<18}{'like / contradictory / difference':<38}{'entropy':<14}{'CPU s':>5}")
    rows: dict[str, dict[str, Any]] = {
        "none": {"sharing": "none"},
        "full": {"sharing": "full"},
        "learned, a third held out": {"eta": 0.05},
        "learned": {"eta": 0.05, "held_out": 0.0, "warm_up": 0.0},
        "learned, ranked by task": {"eta": 0.05, "held_out": 0.0, "warm_up": 0.0, "rank": "task"},
        "learned, eta .1": {"eta": 0.1, "held_out": 0.0, "warm_up": 0.0},
    }
    reached: dict[str, np.ndarray] = {}
    for name, options in rows.items():
        began = time.process_time()
        found, sets, spread, _ = run("weight_sharing_planted", **options)
        like = (sets[0] == sets[1]).mean(axis=0)
        odd = ((sets[0] == sets[2]).mean(axis=0) + (sets[1] == sets[2]).mean(axis=0)) / 2
        more = f"{like.mean():.2f} / {odd.mean():.2f} / {shown(like - odd):<24}{spread.mean():.3f}"
        line(name, found, more, time.process_time() - began)
        reached[name] = found.mean(dim=0).numpy()
        if name == "learned":
            assert spread.mean() < 0.1, "chances have not settled"
            assert (like - odd).mean() > 0.15, "like tasks share no more than contradictory ones"
    learned = reached["learned"]
    for control in ("none", "full"):
        assert learned.mean() > reached[control].mean() - reached[control].std(ddof=1), f"no better than {control}"


def accuracy() -> None:
    """Compare learned sharing with controls on three sets of images with heads of their own."""
    print("\nweight_sharing_images: MNIST, Fashion-MNIST and MNIST with a fixed permutation of pixels, 500 rows each")
    print(f"{'':<30}{'accuracy':<18}{'entropy, but for heads':<52}{'CPU s':>5}")
    rows: dict[str, dict[str, Any]] = {
        "none": {"sharing": "none"},
        "lower shared": {"sharing": "lower"},
        "full": {"sharing": "full"},
        "learned, a third held out": {"eta": 0.05},
        "learned": {"eta": 0.05, "held_out": 0.0, "warm_up": 0.0},
        "learned, eta .01": {"eta": 0.01, "held_out": 0.0, "warm_up": 0.0},
    }
    for name, options in rows.items():
        began = time.process_time()
        found, _, spread, _ = run("weight_sharing_images", **options)
        line(name, found, f"{spread[:, :-1].mean():.3f}", time.process_time() - began)


def continual() -> None:
    """See which sets a task that comes back with few other rows uses, one behind the other."""
    print(
        "\nweight_sharing_continual: MNIST and Fashion-MNIST, 1,000 rows, then each again with 50 other rows; re-use of the right"
    )
    print(
        "set in the first layer and in the upper one, of so many; forgetting is the greatest change of any task's accuracy"
    )
    print(f"{'':<30}{'MNIST again':<18}{'Fashion again':<18}{'first':<8}{'upper':<8}{'forgetting':<12}{'CPU s':>5}")
    rows: dict[str, dict[str, Any]] = {
        "learned, a third held out": {},
        "learned, ranked on its rows": {"held_out": 0.0},
        "none": {"sharing": "none"},
        "full": {"sharing": "full"},
    }
    for name, options in rows.items():
        began = time.process_time()
        found, sets, _, once = run("weight_sharing_continual", **options)
        right = [sum(int((sets[task, layer] == sets[task - 2, layer]).sum()) for task in (2, 3)) for layer in (0, 1)]
        of = 2 * len(SEEDS)
        cells = f"{shown(found[2]):<18}{shown(found[3]):<18}{right[0]:>2} of {of:<3}{right[1]:>2} of {of:<4}"
        print(f"{name:<30}{cells}{(once - found).abs().max():<12.3f}{time.process_time() - began:>5.0f}", flush=True)
        if not options:
            assert right[0] >= 6, "the first layer is not used again"
            assert torch.equal(once, found), "something was forgotten"


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread; mean ± sample deviation over seeds {SEEDS[0]} to {SEEDS[-1]}")
    parts: dict[str, Callable[[], None]] = {"planted": planted, "accuracy": accuracy, "continual": continual}
    for part in sys.argv[1:] or parts:
        parts[part]()


if __name__ == "__main__":
    main()
