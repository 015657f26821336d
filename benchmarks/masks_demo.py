"""Choices of the demo, of HAT, PackNet, Piggyback and Compose above all, and what they come to.

    PYTHONPATH=. python benchmarks/masks_demo.py | tee benchmarks/output/masks_demo.txt

Needs no data files. Choices are made on validation rows, a fifth of the training rows, which the table of choices shows;
the last table is of the demo as it is, on test rows.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import cells
from cl_engine.experiment import Experiment
from cl_engine.masks.events import GatesUsed, MaskRate

QUICK = {"agenda.evaluate_every": 0, "agenda.evaluate_ahead": 0, "agenda.curve_epochs": 0}
ASIDE = {"stream.validation": 0.2}
FIVE = {"stream.n": 5}
WIDE = {"net.hidden": [64, 64, 64]}
SMALL = {"train.batch": 32, "train.lr": 1e-3}  # the scenario's own, where the demo has larger batches
HAT = [{"gradient": gradient, "sparsity": penalty} for gradient in ("exact", "released") for penalty in (0.75, 0.1)]
CHOICES: list[tuple[str, dict[str, Any]]] = [
    *(("piggyback", {"net.init": init, "mask_lr": 1e-3, **FIVE}) for init in ("default", "xavier", "orthogonal")),
    *(("piggyback", {"net.init": "kaiming", "mask_lr": rate, **FIVE}) for rate in (1e-4, 3e-4, 1e-3, 3e-3)),
    *(
        ("piggyback", {"net.init": "default", "train.epochs": 1, "mask_lr": rate, **FIVE})
        for rate in (7e-4, 2.8e-3, 8e-3)
    ),
    *(
        ("packnet", {"prune": prune, "retrain_epochs": None, "retrain_lr": None, **SMALL})
        for prune in ([0.5, 0.75], [0.5, 0.6], "equal")
    ),
    ("packnet", {"prune": "equal", "retrain_epochs": 8, "retrain_lr": None, **SMALL}),
    ("packnet", {"prune": "equal", "retrain_epochs": 8, "retrain_lr": 1e-3, **SMALL}),
    ("packnet", {"prune": "equal", "retrain_epochs": 16, "retrain_lr": 1e-3, **SMALL}),
    ("packnet", {"prune": "equal", "retrain_epochs": 16, "retrain_lr": 2e-3}),
    *(("compose", {"joint": joint, **WIDE, **SMALL}) for joint in (3, 5, 10)),
    ("compose", {"joint": 10, "net.hidden": [64, 64, 64, 64], **SMALL}),
    ("compose", {"joint": 10, **WIDE}),
    ("joint", SMALL),
    ("joint", {}),
    ("mntdp_s", SMALL),
    ("mntdp_s", {}),
]
DEMO = ["hat", "packnet", "piggyback", "compose"]


def measure(strategy: str, seeds: tuple[int, ...], **options: Any) -> str:
    """Run a strategy on the demo and return accuracy over all tasks on validation and test rows, and what it told."""
    experiment = Experiment.of("demo", strategy, seeds, **QUICK, **options)
    stream = experiment.stream()
    learner, last = experiment.build_strategy(stream), (stream.n_tasks or 0) - 1
    test, told = np.full((last + 1, len(seeds)), np.nan), ""
    for event in simulate(stream, learner, plan(stream, experiment.agenda)):
        for cell in cells(event):
            test[cell.task_id] = np.array(cell.n_correct) / cell.n_total
        if isinstance(event, GatesUsed) and event.task_id == 0:
            told += f"  {event.part}: {np.mean(event.open):.2f} open"
        if isinstance(event, MaskRate) and event.task_id == 0:
            told += f"  rate {event.rate:.2g} for {event.steps} steps"
    if ASIDE.items() <= options.items():
        rows = [stream[task].validation for task in range(last + 1)]
        right = [(learner.predict(part.x, task).argmax(-1) == part.y).float() for task, part in enumerate(rows)]
        return f"{torch.stack([answers.mean(-1) for answers in right]).mean():>11.4f}{told}"
    mean = test.mean(axis=0)
    return f"{mean.mean():.4f} ± {mean.std(ddof=1):.4f}  last task {test[last].mean():.3f}{told}"


def shown(options: dict[str, Any]) -> str:
    """Return options as one writes them."""
    return ", ".join(f"{name} = {value}" for name, value in options.items() if value is not None)


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, scenario demo")
    if "choices" in (sys.argv[1:] or ["choices"]):
        print(f"\n{'choices: seeds 0 and 1':<70}validation")
        for strategy, options in CHOICES:
            print(f"{strategy + ': ' + shown(options):<70}{measure(strategy, (0, 1), **options, **ASIDE)}", flush=True)
    if "hat" in (sys.argv[1:] or ["hat"]):
        print(f"\n{'HAT, 5 tasks, seeds 0 to 2: units open for the first task':<70}test")
        for options in HAT:
            print(f"{shown(options):<70}{measure('hat', (0, 1, 2), **options, **FIVE)}", flush=True)
    if "demo" in (sys.argv[1:] or ["demo"]):
        print(f"\n{'the demo as it is, seeds 0 to 4':<70}test")
        for strategy in DEMO:
            print(f"{strategy:<70}{measure(strategy, (0, 1, 2, 3, 4))}", flush=True)


if __name__ == "__main__":
    main()
