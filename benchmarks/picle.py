"""PICLE on BELL's sequences beside MNTDP, experts, and a net a task: tables and a picture of docs/modules.md.

    PYTHONPATH=. python benchmarks/picle.py FOLDER [KIND[/STRATEGY] …]
    PYTHONPATH=. python benchmarks/picle.py table | tee benchmarks/output/picle.txt
    PYTHONPATH=. python benchmarks/picle.py picture

KIND is what a scenario `bell_…_local` ends in: s_pl, s_minus, s_plus, s_in, s_sp, s_out, s_few, s_long; all, if none is named.
Runs are in FOLDER: the same command again goes on where it was stopped, and several may be started beside each other. `table`
prints what benchmarks/output/picle.json has of them, `picture` draws docs/picle_fits.png. Seed 0, one thread; needs MNIST and
Fashion-MNIST under $CL_DATA_ROOT. All choose the epoch, and the path, on the same validation rows.

A: mean accuracy after the last task; last: that of the last task; T: less that of `independent`. Modules are those kept for all
tasks. Fits: paths trained a task, the mean over the tasks and the most. Asked: past nets whose features were looked at for the
last task. TFLOP are those of training.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measured import put, read
from cl_engine.analysis.plots.style import colour, figure, legend, styled
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.experiment import Experiment
from cl_engine.nn.division import division
from cl_engine.results.run import Run, open_run

KINDS = ("s_pl", "s_minus", "s_plus", "s_in", "s_sp", "s_out", "s_few", "s_long")
STRATEGIES = ("independent", "picle", "mntdp", "experts")
OUTPUT = Path(__file__).parent / "output" / "picle.json"
PICTURE = Path(__file__).parents[1] / "docs" / "picle_fits.png"


def measured(kind: str, strategy: str, folder: Path) -> dict[str, Any]:
    """Run a strategy on a sequence, or what is left of it, and return what the table and the picture show of it."""
    experiment = Experiment.of(f"bell_{kind}_local", strategy, (0,))
    run = open_run(experiment.run(folder / f"{kind}-{strategy}", device="cpu"))
    accuracy = np.asarray(run.scores)[-1].squeeze()
    tasks, depths = len(accuracy), len(division(experiment.build_strategy(experiment.stream()).net))
    added = _events(run, "ModuleAdded", "module")
    return {
        "accuracy": accuracy.tolist(),
        "modules": int((added >= 0).sum()) if len(added) else tasks * depths,
        "fits": _fits(run, depths, tasks),
        "asked": [_count(run, task) for task in range(tasks)],
        "tflop": summarised(run).training_flops / 1e12,
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
        f"{np.mean(fits):8.1f}{max(fits):6}{own['asked'][-1]:8}{own['tflop']:9.4f}"
    )


@styled
def picture(found: dict[str, Any]) -> None:
    """Draw fits a task, and past nets asked, against the tasks met."""
    fig, axes = figure(width=7.6, height=3.2, columns=2)
    for place, (axis, key, label) in enumerate(
        zip(axes, ("fits", "asked"), ("paths trained for a task", "past nets looked at"), strict=True)
    ):
        for number, strategy in enumerate(("experts", "mntdp", "picle")):
            values = np.array(found[strategy][key], dtype=float)
            axis.plot(np.arange(len(values)), values, color=colour(number), label=strategy if not place else None)
        axis.set(xlabel="tasks met", ylabel=label, ylim=(0, None))
    legend(fig, axes[0])
    fig.savefig(PICTURE, dpi=120)


def table(results: dict[str, Any]) -> None:
    """Print what there is of every sequence."""
    print(f"torch {torch.__version__}, one thread, seed 0")
    head = f"{'A':>7}{'last':>8}{'T':>9}{'modules':>9}{'fits':>8}{'most':>6}{'asked':>8}{'TFLOP':>9}"
    for kind in (kind for kind in KINDS if "independent" in results.get(kind, {})):
        print(f"\nbell_{kind}_local\n{'':<13}{head}")
        for strategy in (strategy for strategy in STRATEGIES if strategy in results[kind]):
            print(row(strategy, results[kind][strategy], results[kind]["independent"]))


def main() -> None:
    torch.set_num_threads(1)
    what, *units = sys.argv[1:] or ["table"]
    if what in ("table", "picture"):
        (table(read(OUTPUT)) if what == "table" else picture(read(OUTPUT)["s_long"]))
        return
    pairs = [unit.split("/") for unit in units or KINDS]
    for kind, strategy in ((kind, own) for kind, *named in pairs for own in named or STRATEGIES):
        found = measured(kind, strategy, Path(what))
        put(OUTPUT, kind, strategy, found)


if __name__ == "__main__":
    main()
