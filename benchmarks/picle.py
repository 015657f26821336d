"""PICLE on BELL's sequences beside MNTDP, experts, and a net a task: tables and a picture of docs/modules.md.

    PYTHONPATH=. python benchmarks/picle.py [KIND …] | tee benchmarks/output/picle.txt
    PYTHONPATH=. python benchmarks/picle.py picture

KIND is the end of a scenario `bell_…_local`: s_pl, s_minus, s_plus, s_in, s_sp, s_out, s_few, s_long; all, if none is named.
`picture` draws docs/picle_fits.png from what a run with s_long has left in benchmarks/output/picle.json. Seed 0, one thread;
needs MNIST and Fashion-MNIST under $CL_DATA_ROOT. All choose the epoch, and the path, on the same validation rows.

A: mean accuracy after the last task; last: that of the last task; T: less that of `independent`. Modules are those kept for all
tasks. Fits: paths trained a task, the mean over the tasks and the most. Asked: past nets whose features were looked at for the
last task. Seconds are those of CPU.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from cl_engine.analysis.plots.style import colour, figure, legend, styled
from cl_engine.experiment import Experiment
from cl_engine.nn.division import division
from cl_engine.results.run import Run, open_run

KINDS = ("s_pl", "s_minus", "s_plus", "s_in", "s_sp", "s_out", "s_few", "s_long")
STRATEGIES = ("independent", "picle", "mntdp", "experts")
OUTPUT = Path(__file__).parent / "output" / "picle.json"
PICTURE = Path(__file__).parents[1] / "docs" / "picle_fits.png"


def measured(kind: str, strategy: str) -> dict[str, Any]:
    """Run a strategy on a sequence and return what the table and the picture show of it."""
    began = time.process_time()
    experiment = Experiment.of(f"bell_{kind}_local", strategy, (0,))
    with TemporaryDirectory() as folder:
        run = open_run(experiment.run(Path(folder) / "run", device="cpu"))
        accuracy = np.asarray(run.scores)[-1].squeeze()
        tasks, depths = len(accuracy), len(division(experiment.build_strategy(experiment.stream()).net))
        added = _events(run, "ModuleAdded", "module")
        return {
            "accuracy": accuracy.tolist(),
            "modules": int((added >= 0).sum()) if len(added) else tasks * depths,
            "fits": _fits(run, depths, tasks),
            "asked": [_count(run, task) for task in range(tasks)],
            "seconds": time.process_time() - began,
        }


def _events(run: Run, kind: str, name: str) -> np.ndarray:
    table = run.table("events")
    found: np.ndarray = table[(table["kind"] == kind) & (table["name"] == name)]["value"].to_numpy()
    return found


def _fits(run: Run, depths: int, tasks: int) -> list[int]:
    """Return how many paths were trained for each task: those on which something was new."""
    table = run.table("events")
    tried = table[table["kind"] == "CandidateTried"]
    if tried.empty:
        return [1] * tasks
    reused = tried[tried["name"] == "reused"].set_index("event")["value"]
    counted = tried[(tried["name"] == "validation") & tried["value"].notna() & (tried["event"].map(reused) < depths)]
    return counted.groupby("step").size().reindex(range(tasks), fill_value=0).tolist()


def _count(run: Run, step: int) -> int:
    """Return how many past nets a task was asked about."""
    table = run.table("events")
    asked = table[table["kind"].isin(["SourceScored", "ExpertScored"]) & (table["step"] == step)]
    return int(asked["event"].nunique())


def row(strategy: str, own: dict[str, Any], base: dict[str, Any]) -> str:
    """Return a line of the table."""
    accuracy, fits = np.array(own["accuracy"]), own["fits"]
    transfer = f"{accuracy[-1] - base['accuracy'][-1]:+9.3f}"
    return (
        f"{strategy:<13}{accuracy.mean():7.3f}{accuracy[-1]:8.3f}{transfer}{own['modules']:9}"
        f"{np.mean(fits):8.1f}{max(fits):6}{own['asked'][-1]:8}{own['seconds']:9.0f}"
    )


@styled
def picture(found: dict[str, Any]) -> None:
    """Draw fits a task, and past nets asked, against the tasks met."""
    fig, axes = figure(width=7.6, height=3.2, columns=2)
    for place, (axis, key, label) in enumerate(
        zip(
            axes, ("fits", "asked"), ("paths trained for a task", "past nets whose features are looked at"), strict=True
        )
    ):
        for number, strategy in enumerate(("experts", "mntdp", "picle")):
            values = np.array(found[strategy][key], dtype=float)
            axis.plot(np.arange(len(values)), values, color=colour(number), label=strategy if not place else None)
        axis.set(xlabel="tasks met", ylabel=label, ylim=(0, None))
    legend(fig, axes[0])
    fig.savefig(PICTURE, dpi=120)


def main() -> None:
    torch.set_num_threads(1)
    kinds = sys.argv[1:] or list(KINDS)
    results = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    if kinds == ["picture"]:
        picture(results["s_long"])
        return
    print(f"torch {torch.__version__}, one thread, seed 0", flush=True)
    for kind in kinds:
        print(
            f"\nbell_{kind}_local\n{'':<13}{'A':>7}{'last':>8}{'T':>9}{'modules':>9}{'fits':>8}{'most':>6}{'asked':>8}{'seconds':>9}",
            flush=True,
        )
        results[kind] = {}
        for strategy in STRATEGIES:
            results[kind][strategy] = measured(kind, strategy)
            print(row(strategy, results[kind][strategy], results[kind]["independent"]), flush=True)
            OUTPUT.write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
