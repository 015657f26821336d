"""Vehicles from above: a detector trained on each domain, tested on all; and one shown its pictures at random.

PYTHONPATH=. python benchmarks/vehicles.py measure 0    # and 1, 2: output/vehicles_SEED.json, two CPU-minutes each
PYTHONPATH=. python benchmarks/vehicles.py | tee benchmarks/output/vehicles.txt    # tables from those files
PYTHONPATH=. python benchmarks/vehicles.py draw    # docs/vehicles.png, a CPU-minute or two
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.data.stream import Stream
from cl_engine.experiment import Experiment
from cl_engine.scenes.aerial import rendered
from cl_engine.strategy import Strategy
from cl_engine.streams.vehicles import SHIFTS
from cl_engine.testing.walking import after_each_task

OUTPUT = Path(__file__).parent / "output"
PICTURE = Path(__file__).parents[1] / "docs" / "vehicles.png"
DOMAINS = ("clear", "mild", "moderate", "severe")
COLUMNS = 4  # pictures
SHOWN = {"train.crop": 4, "train.flip": 0.5, "train.vertical_flip": 0.5, "train.zoom": 0.2}


def trained(seed: int, domain: int, **options: Any) -> tuple[Stream, Strategy]:
    """Return the stream whose first task is this domain, and a detector after it."""
    order = [domain, *(other for other in range(len(DOMAINS)) if other != domain)]
    changes = {"stream.seed": seed, "stream.task_order": order, **options}
    return next(after_each_task(Experiment.of("vehicles", "finetune", (seed,), **changes)))


def scores(stream: Stream, strategy: Strategy) -> dict[str, float]:
    """Return the average precision on the test pictures of every domain."""
    found = {}
    for task in range(len(DOMAINS)):
        rows, target = stream.test(task), stream.target(task)
        sums = target.sums_by_seed(strategy.predict(rows.x, None), rows.y)
        found[stream.name_of(task)] = float(target.score(sums)[0])
    return found


def measured(seed: int) -> dict[str, Any]:
    """Return all that is told of one seed."""
    found: dict[str, Any] = {"seed": seed}
    ways = {name: (place, {}) for place, name in enumerate(DOMAINS)} | {"clear, moved": (0, SHOWN)}
    for name, (domain, options) in ways.items():
        started = time.process_time()
        found[name] = scores(*trained(seed, domain, **options))
        print(seed, name, found[name], f"{time.process_time() - started:.0f} s of CPU", flush=True)
    return found


def told(runs: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"seeds {[run['seed'] for run in runs]}: AP at an overlap of .5 on test pictures, mean ± sample deviation")
    print("trained with labels of (rows), tested on (columns)\n")
    print(f"{'':16}" + "".join(f"{name:>16}" for name in DOMAINS))
    for way in (*DOMAINS, "clear, moved"):
        cells = [[run[way][name] for run in runs] for name in DOMAINS]
        print(f"{way:16}" + "".join(f"{np.mean(cell):>9.3f} ± {np.std(cell, ddof=1):.3f}" for cell in cells))
    print("\nwhat labels of the domain itself add to a detector that knows the clear one alone, each seed")
    for name in DOMAINS[1:]:
        print(f"{name:16}" + "".join(f"{run[name][name] - run['clear'][name]:>+9.3f}" for run in runs))
    started = time.process_time()
    rendered(None, SHIFTS["severe"], 64, 0, "train", 1000)
    print(f"\nCPU-seconds to render 1000 pictures of the severe domain: {time.process_time() - started:.1f}")


def draw() -> None:
    """Draw what the detector of the clear domain, and that of each domain, find in the same test pictures."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from cl_engine.analysis.plots.predictions import detections

    figure, axes = plt.subplots(len(DOMAINS), 2 * COLUMNS, figsize=(10.6, 5.9), dpi=80)
    clear = trained(0, 0)
    for domain, name in enumerate(DOMAINS):
        ways = (("clear", clear), (name, trained(0, domain) if domain else clear))
        for (way, (stream, strategy)), own in zip(ways, (axes[domain, :COLUMNS], axes[domain, COLUMNS:]), strict=True):
            task = next(task for task in range(len(DOMAINS)) if stream.name_of(task) == name)
            rows, target = stream.test(task), stream.target(task)
            found = target.answers(strategy.predict(rows.x[:COLUMNS], None)[0])
            for axis, image, wanted, answers in zip(own, rows.x, rows.y.numpy(), found.numpy(), strict=False):
                axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
                detections(axis, wanted, answers)
            own[0].set_title(f"{name}, learned on {way}", fontsize=9, loc="left")
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(PICTURE)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        found = measured(int(sys.argv[2]))
        (OUTPUT / f"vehicles_{found['seed']}.json").write_text(json.dumps(found, indent=1) + "\n")
    elif sys.argv[1:2] == ["draw"]:
        draw()
    else:
        files = sorted(OUTPUT.glob("vehicles_*.json"))
        told([json.loads(file.read_text()) for file in files])


if __name__ == "__main__":
    main()
