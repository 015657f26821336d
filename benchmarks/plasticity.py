"""Published protocols of plasticity: plain training beside what keeps a net able to learn.

    PYTHONPATH=. python benchmarks/plasticity.py run PROTOCOL FOLDER [METHOD …]   # goes on with runs that are there
    PYTHONPATH=. python benchmarks/plasticity.py PROTOCOL FOLDER | tee benchmarks/output/plasticity_PROTOCOL.txt

What a table shows of runs is kept beside it, as JSON, and shown again where FOLDER has no run of a method; pictures are of runs.
Protocols are below: a scenario, seeds, and methods with the rates that their authors chose (Kumar, Marklund & Van Roy 2023, Adam,
where they have the protocol). Printed: total average online accuracy and that of the last tenth of the tasks (for `flip` the
squared error), means with 95 % t intervals over seeds, differences to plain training by seed with the p of a signed-rank test,
and minutes of the run on this machine, whatever else it did. The picture is drawn into docs/.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.intervals import said
from cl_engine.analysis.plots import across_runs, plasticity
from cl_engine.analysis.plots.style import rendered
from cl_engine.analysis.scores.online import online_scores
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.analysis.scores.statistics import signed_rank
from cl_engine.experiment import Experiment
from cl_engine.metrics import matrix_scores
from cl_engine.results.run import Run, open_run

OUTPUT = Path(__file__).parent / "output"
TENS = tuple(range(10))
L2_INIT: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, Adam 1e-4": {"train.lr": 1e-4},
    "l2_init 1e-2": {"train.upkeep": "l2_init?strength=0.01"},
    "L2 1e-2": {"train.weight_decay": 0.02},  # λ‖θ‖² has the gradient 2 λ θ
    "shrink_perturb": {"train.upkeep": "shrink_perturb?shrink=1e-3&noise_scale=1e-2"},
    "continual_backprop": {"train.upkeep": "continual_backprop?rate=1e-3"},
    "redo": {"train.upkeep": "redo?period=625&threshold=0"},
    "layer norm": {"net.norm": "layer"},
    "concatenated ReLU": {"net.activation": "crelu"},
}
PROTOCOLS: dict[str, tuple[str, tuple[int, ...], dict[str, dict[str, Any]]]] = {
    "permuted": (
        "plasticity_permuted_mnist",
        TENS,
        {n: {**o, "agenda.diagnose_every": 10} for n, o in L2_INIT.items()},
    ),
    "random_labels": (
        "plasticity_random_labels_local",
        TENS,
        {
            "plain": {},
            "plain, Adam 1e-4": {"train.lr": 1e-4},
            "l2_init 1e-2, Adam 1e-4": {"train.lr": 1e-4, "train.upkeep": "l2_init?strength=0.01"},
            "l2_init 1e-2": {"train.upkeep": "l2_init?strength=0.01"},
            "shrink_perturb, Adam 1e-4": {
                "train.lr": 1e-4,
                "train.upkeep": "shrink_perturb?shrink=1e-4&noise_scale=1e-2",
            },
            "continual_backprop": {"train.upkeep": "continual_backprop?rate=1e-3"},
        },
    ),
    "online": (
        "plasticity_online_mnist_local",
        (0, 1, 2, 3, 4),
        {
            "plain": {},
            "L2 1e-4": {"train.weight_decay": 1e-4},
            "shrink_perturb": {
                "train.weight_decay": 1e-4,
                "train.upkeep": "shrink_perturb?shrink=0&noise=normal&noise_scale=1e-5",
            },
            "continual_backprop": {"train.upkeep": "continual_backprop?rate=1e-4"},
        },
    ),
    "flip": (
        "plasticity_flip",
        tuple(range(100)),
        {
            "plain": {},
            "plain, tanh": {"net.activation": "tanh"},
            "continual_backprop": {"train.upkeep": "continual_backprop?rate=1e-4&maturity=10&accumulate=false"},
        },
    ),
    "ewc": (
        "plasticity_ewc_mnist",
        (0, 1, 2, 3, 4),
        {
            "l2_init 1e-2": {"train.upkeep": "l2_init?strength=0.01"},
            "ewc": {"strategy": "ewc", "strength": 10.0},
            "ewc and l2_init": {"strategy": "ewc", "strength": 10.0, "train.upkeep": "l2_init?strength=0.01"},
            "plain": {},
        },
    ),
}


def folder_of(name: str) -> str:
    return name.replace(",", "").replace(" ", "_")


def run(protocol: str, folder: Path, names: list[str]) -> None:
    """Run the methods of a protocol one after the other."""
    scenario, seeds, methods = PROTOCOLS[protocol]
    for name in names or methods:
        options = dict(methods[name])
        strategy = options.pop("strategy", "finetune")
        Experiment.of(scenario, strategy, seeds, **options).run(folder / protocol / folder_of(name), device="cpu")
        print(name, "done", flush=True)


def table(protocol: str, folder: Path) -> None:
    """Print what the runs there are came to, and draw them."""
    _, _, methods = PROTOCOLS[protocol]
    runs: dict[str, Run] = {}
    for name in methods:
        path = folder / protocol / folder_of(name)
        if (path / "log.h5").exists() and (found := open_run(path)).status == "finished":
            runs[name] = found
    kept = OUTPUT / f"plasticity_{protocol}.json"
    measured: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    measured |= {name: of_run(found) for name, found in runs.items()}
    if "plain" not in measured:
        sys.exit(f"there is no finished run of plain training in {folder / protocol} to compare with")
    kept.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
    plain = np.array(measured["plain"]["all"])
    bwt = protocol == "ewc"
    print(
        f"{protocol}: {measured['plain']['tasks']} tasks, {len(plain)} seeds, torch {torch.__version__}, {os.cpu_count()} cores"
    )
    last = f"last {measured['plain']['last of']}"
    print(f"{'':<28}{'all tasks':>16}{last:>16}{'less plain':>18}{'p':>8}{'minutes':>9}{'   BWT' if bwt else ''}")
    for name in (name for name in methods if name in measured):
        own = measured[name]
        less = np.array(own["all"]) - plain
        shown = f"{less.mean():+.4f} ± {float(interval(less)):.4f}" if less.any() else ""
        p = signed_rank(less) if less.any() else float("nan")
        doubt = "<.001" if p < 0.001 else f"{p:.3f}"
        total, late = (said(np.array(own[key])) for key in ("all", "last"))
        more = f"{own['bwt']:+8.3f}" if bwt else ""
        print(f"{name:<28}{total:>16}{late:>16}{shown:>18}{doubt:>8}{own['minutes']:>9.1f}{more}")
    if runs:
        draw(protocol, list(runs.values()))


def of_run(run: Run) -> dict[str, Any]:
    """Return what the table shows of a run: means by seed over all tasks and over the last tenth, minutes, and BWT."""
    scores = online_scores(run)
    last = max(1, len(scores) // 10)
    seconds = float(np.nansum(run.results["seconds"].values))
    means = {key: own.mean(axis=0).round(6).tolist() for key, own in (("all", scores), ("last", scores[-last:]))}
    return {**means, "tasks": len(scores), "last of": last, "minutes": seconds / 60, "bwt": backward(run)}


def backward(run: Run) -> float:
    """Return BWT at the end, the mean over seeds."""
    found = matrix_scores.bwt(run.results["score"].values, run.results["evaluation_step"].values, run.learned)
    return float(np.asarray(found)[-1].mean())


def draw(protocol: str, runs: list[Run]) -> None:
    pictures = Path(__file__).parents[1] / "docs"
    for name, draw_ in {"": across_runs.online_over_stream, "_units": plasticity.diagnostics_over_stream}.items():
        figure = draw_(runs)
        if figure is not None:
            (pictures / f"plasticity_{protocol}{name}.png").write_bytes(rendered(figure, "png"))


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1] == "run":
        run(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        table(sys.argv[1], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
