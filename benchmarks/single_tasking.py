"""Attentive single-tasking: what tasks lose in one net, what each part of their own brings back, and the frozen form.

PYTHONPATH=. python benchmarks/single_tasking.py measure views     # output/single_tasking_views.json; likewise scenes, frozen
PYTHONPATH=. python benchmarks/single_tasking.py | tee benchmarks/output/single_tasking.txt    # tables, from those files
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.analysis.scores.references import delta_m_to, last_scores
from cl_engine.experiment import Experiment
from cl_engine.nn.flops import Flops
from cl_engine.results import open_run
from cl_engine.results.run import Run
from cl_engine.strategies.single_tasking import SingleTasking

OUTPUT = Path(__file__).parent / "output"
SEEDS = (0, 1, 2)
NORMS, SE, ADAPTERS = ["norms"], ["norms", "se"], ["norms", "se", "adapters"]
LADDER: dict[str, dict[str, Any]] = {
    "all shared": {"parts": []},
    "+ norms": {"parts": NORMS},
    "+ norms, SE": {"parts": SE},
    "+ norms, SE, adapters": {"parts": ADAPTERS},
    "+ norms, SE, adapters, adversary": {"parts": ADAPTERS, "adversary": 0.01},
}
CASES: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "views": (
        "single_tasking_views",
        {
            "all shared, wider": {"parts": [], "net.width": 12},
            **LADDER,
            "+ norms, adapters": {"parts": ["norms", "adapters"]},
        },
    ),
    "scenes": (
        "single_tasking_scenes",
        {**LADDER, "all shared, wider": {"parts": [], "net.width": 6}},
    ),
}
FROZEN: dict[str, tuple[str, dict[str, Any]]] = {
    "head_only": ("head_only", {}),
    "frozen, norms and SE": ("single_tasking", {"parts": SE}),
    "frozen, norms, SE, adapters": ("single_tasking", {}),
    "independent": ("independent", {}),
}


def ran(scenario: str, strategy: str, options: dict[str, Any], folder: Path) -> Run:
    """Return the run of an experiment, a folder of its own below ``folder``."""
    experiment = Experiment.of(scenario, strategy, SEEDS, **options)
    return open_run(experiment.run(folder / experiment.folder.name, device="cpu"))


def size(scenario: str, options: dict[str, Any], tasks: int) -> tuple[int, float]:
    """Return the weights that all tasks need together, BatchNorm's statistics not counted, and operations an answer."""
    experiment = Experiment.of(scenario, "single_tasking", (0,), **options)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert isinstance(strategy, SingleTasking)
    strategy.state = strategy.start()
    net, modulation = strategy.net, strategy._modulation
    own = {name: int(np.prod(net.shapes[name])) for name in modulation.norms.layout.shapes if not net.is_buffer(name)}
    head = net.outputs * (net.width + 1)
    trunk = net.parameters - head - sum(own.values())
    x = stream.test(0).x[:64]
    with Flops() as counted:
        strategy.predict(x, 0)
    return trunk + tasks * (head + modulation.layout.size + sum(own.values())), counted.total / len(x)


def kept(case: str, rows: list[dict[str, Any]]) -> None:
    """Write what was measured up to now."""
    (OUTPUT / f"single_tasking_{case}.json").write_text(json.dumps(rows) + "\n")


def measured(case: str, folder: Path) -> None:
    """Measure each rung, and keep it."""
    scenario, rungs = CASES[case]
    alone = ran(scenario, "independent", {}, folder)
    tasks = len(alone.learned)
    weights, operations = size(scenario, {"parts": []}, 1)
    rows = [
        {
            "rung": "a net for each task",
            "weights": tasks * weights,
            "operations": operations,
            "seconds": float(alone.table("epochs")["seconds"].sum()),
            "scores": last_scores(alone).tolist(),
            "delta_m": [0.0] * len(SEEDS),
        }
    ]
    for rung, options in rungs.items():
        run = ran(scenario, "single_tasking", options, folder)
        weights, operations = size(scenario, options, tasks)
        events = run.table("events")
        judged = events[(events["kind"] == "JudgeScored") & (events["name"] == "accuracy")]["value"]
        rows.append(
            {
                "rung": rung,
                "weights": weights,
                "operations": operations,
                "seconds": float(run.table("epochs")["seconds"].sum()),
                "scores": last_scores(run).tolist(),
                "delta_m": delta_m_to(run, alone).tolist(),
                "judge": judged.tolist(),
            }
        )
        print(case, rung, [f"{one:+.4f}" for one in rows[-1]["delta_m"]], flush=True)
        kept(case, rows)


def measured_frozen(folder: Path) -> None:
    """Keep accuracy and forgetting of the frozen form beside a head alone and a net for each task."""
    rows = []
    for name, (strategy, options) in FROZEN.items():
        run = ran("masks_rotated_mnist", strategy, {"train.epochs": 20, **options}, folder)
        assert run.final is not None
        found = {key: run.final[key].values.tolist() for key in ("acc", "forgetting")}
        memory = float(run.results["memory"][-1].sum())
        rows.append({"strategy": name, **found, "memory": memory})
        print(rows[-1], flush=True)
        kept("frozen", rows)


def told(case: str, rows: list[dict[str, Any]]) -> None:
    """Print the table of a ladder."""
    views = Experiment.of(CASES[case][0], "independent").resolved["stream"]["views"]
    print(
        f"\n{case}: Δm against a net for each task, in percent, seeds {list(SEEDS)}; scores on test rows, mean of seeds"
    )
    print(
        f"{'':<34}{'Δm':>7}  {'by seed':<24}{'weights':>9}{'Mflop':>8}{'s':>6}  " + "".join(f"{v:>13}" for v in views)
    )
    for row in rows:
        by_seed = ", ".join(f"{100 * one:+.1f}" for one in row["delta_m"])
        print(
            f"{row['rung']:<34}{100 * np.mean(row['delta_m']):>+7.1f}  {by_seed:<24}{row['weights']:>9,}"
            f"{row['operations'] / 1e6:>8.2f}{row['seconds']:>6.0f}  "
            + "".join(f"{np.mean(of_task):>13.3f}" for of_task in row["scores"])
        )
        if row.get("judge"):
            low, high = min(row["judge"]), max(row["judge"])
            print(f"{'':<34}the judge names the task of {low:.2f} to {high:.2f} of gradients")
    of_rung = {row["rung"]: np.array(row["delta_m"]) for row in rows}
    full, adversary = of_rung["+ norms, SE, adapters"], of_rung["+ norms, SE, adapters, adversary"]
    for what, difference in {
        "norms, SE, adapters less all shared": full - of_rung["all shared"],
        "the adversary beside these": adversary - full,
    }.items():
        print(f"{what}: {100 * difference.mean():+.1f} points, by seed {[f'{100 * one:+.1f}' for one in difference]}")


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        for case in sys.argv[2:]:
            with tempfile.TemporaryDirectory() as folder:
                if case == "frozen":
                    measured_frozen(Path(folder))
                else:
                    measured(case, Path(folder))
        return
    for case in CASES:
        told(case, json.loads((OUTPUT / f"single_tasking_{case}.json").read_text()))
    print("\nmasks_rotated_mnist, 20 epochs: accuracy by seed, forgetting, bytes of one seed")
    for row in json.loads((OUTPUT / "single_tasking_frozen.json").read_text()):
        accuracy = ", ".join(f"{one:.3f}" for one in row["acc"])
        print(
            f"{row['strategy']:<30}{np.mean(row['acc']):.3f} ({accuracy})  {max(row['forgetting']):.4f}{row['memory']:>12,.0f}"
        )


if __name__ == "__main__":
    main()
