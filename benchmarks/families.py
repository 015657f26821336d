"""The three families and their heirs on two streams of a hundred tasks: a table of docs/families.md, and a report.

    PYTHONPATH=. nice python benchmarks/families.py run FOLDER [NAME …]       # goes on with runs that are there
    PYTHONPATH=. python benchmarks/families.py table | tee benchmarks/output/families.txt
    PYTHONPATH=. python benchmarks/families.py picture              # docs/families.png
    PYTHONPATH=. python benchmarks/families.py report FOLDER        # results/reference/families.html of all finished runs

`table` prints what benchmarks/output/families.json has of the runs: each is written there when it has finished.

`permuted`: a hundred permutations of MNIST, a hundred images a class, an MLP 784-100-100-10, ten passes of Adam at 1e-3. `long`:
`ctrl_s_long_local`, CTrL's S-long on what is at hand: a hundred tasks of five classes from five sources, five images a class for
most. Seeds 0 to 2, the task told, one thread. Options are each strategy's defaults, or the scenario's, but for what a row's name
says; none was chosen by these results. `transfer` is the mean over tasks of a task's accuracy when learned less that of
`independent`; bytes are of one seed, in all and what the last half of the tasks added each; seconds a task are those of the run,
learning, testing and saving, with whatever else the machine did.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.intervals import said
from benchmarks.measured import put, read
from cl_engine.analysis.plots.axes import log_axis
from cl_engine.analysis.plots.style import colour, figure, legend, mark, styled
from cl_engine.analysis.report.page import write_report
from cl_engine.analysis.scores.references import scores_when_learned
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run

OUTPUT = Path(__file__).parent / "output" / "families.json"
PICTURE = Path(__file__).parents[1] / "docs" / "families.png"
REPORT = Path(__file__).parents[1] / "results" / "reference" / "families.html"

SEEDS = (0, 1, 2)
PERMUTED: dict[str, Any] = {
    "stream.n": 100,
    "stream.samples_per_class": 100,
    "stream.test_samples_per_class": 100,
    "stream.validation": 0.2,
    "net.hidden": [100, 100],
    "train.epochs": 10,
    "train.batch": 32,
    "train.optimizer": "adam",
    "train.lr": 1e-3,
    "train.momentum": 0.0,
    "agenda.evaluate_ahead": 0,
    "agenda.evaluate_every": 25,
}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "permuted": ("permuted_mnist", PERMUTED),
    "long": ("ctrl_s_long_local", {"agenda.evaluate_every": 25}),
}
FIRST = {"backbone": "first_task"}
# a name: family, strategy, options
ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "independent": ("", "independent", {}),
    "finetune": ("", "finetune", {}),
    "skill_recall, autoencoders": ("recall", "skill_recall", {}),
    "skill_recall, 5 bits": ("recall", "skill_recall", {"codec": "quantised"}),
    "skill_recall of lora, 5 bits": ("recall", "skill_recall", {"codec": "quantised", "what": "lora", **FIRST}),
    "hypernet": ("recall", "hypernet", {}),
    "piggyback, random net": ("masks", "piggyback", {"net.init": "kaiming"}),
    "piggyback, first task's net": ("masks", "piggyback", FIRST),
    "packnet": ("masks", "packnet", {}),
    "supsup": ("masks", "supsup", {}),
    "hat": ("masks", "hat", {"train.optimizer": "sgd", "train.lr": 0.05}),
    "wsn": ("masks", "wsn", {}),
    "lora, first task's net": ("adapters", "lora", FIRST),
    "patch, first task's net": ("adapters", "patch", FIRST),
    "experts": ("modules", "experts", {}),
    "compose": ("modules", "compose", {}),
    "mntdp": ("modules", "mntdp", {}),
    "picle": ("modules", "picle", {}),
}


# compose puts nets together from layers of one size behind the first
OWN: dict[tuple[str, str], dict[str, Any]] = {("permuted", "compose"): {"net.hidden": [100, 100, 100]}}


def folder_of(folder: Path, stream: str, name: str) -> Path:
    return folder / stream / name.replace(",", "").replace("'", "").replace(" ", "_")


def run(folder: Path, names: list[str]) -> None:
    """Run the rows, on both streams, that have not finished, and keep what the table needs of each."""
    for name in names or ROWS:
        _, strategy, options = ROWS[name]
        for stream, (scenario, changes) in STREAMS.items():
            asked = {**changes, **options, **OWN.get((stream, name), {})}
            experiment = Experiment.of(scenario, strategy, SEEDS, **asked)
            found = open_run(experiment.run(folder_of(folder, stream, name), device="cpu"))
            put(OUTPUT, stream, name, of_run(found), indent=1)
            print(stream, name, "done", flush=True)


def of_run(found: Run) -> dict[str, Any]:
    """Return what the table shows of a run: scores by seed, bytes of one seed by halves of the stream, seconds."""
    got = summarised(found)
    memory = found.results["memory"].values.astype(float).sum(axis=1)  # of all parts, by experience
    half = len(memory) // 2
    return {
        "accuracy": got.acc.values.round(6).tolist(),
        "forgetting": got.forgetting.values.round(6).tolist(),
        "learned": scores_when_learned(found).mean(axis=0).round(6).tolist(),  # each task's when learned, by seed
        "bytes": memory[-1],
        "bytes a task": (memory[-1] - memory[half - 1]) / (len(memory) - half),
        "seconds a task": got.seconds / len(memory),
    }


def table() -> None:
    """Print a row of each run that has finished."""
    print(f"torch {torch.__version__}, seeds {SEEDS}, one thread; ± is half a 95 % t interval")
    for stream, measured in sorted(read(OUTPUT).items(), reverse=True):
        head = f"{'accuracy':>16}{'forgetting':>12}{'transfer':>17}{'kB in all':>11}{'kB a task':>10}{'s a task':>9}"
        print(f"\n{stream:<40}{head}")
        for name in (name for name in ROWS if name in measured):
            own = measured[name]
            transfer = np.array(own["learned"]) - measured["independent"]["learned"]
            print(
                f"{name:<30}{ROWS[name][0]:<10}{said(np.array(own['accuracy'])):>16}{np.mean(own['forgetting']):>12.4f}"
                f"{said(transfer) if transfer.any() else '':>17}"
                f"{own['bytes'] / 1e3:>11,.0f}{own['bytes a task'] / 1e3:>10.2f}{own['seconds a task']:>9.2f}"
            )


@styled
def picture() -> None:
    """Draw accuracy against what each further task takes, a colour a family."""
    fig, axes = figure(width=8.4, height=4.6, columns=2)
    families = list(dict.fromkeys(family for family, _, _ in ROWS.values()))
    for axis, stream in zip(axes, STREAMS, strict=True):
        measured = read(OUTPUT)[stream]
        for name, own in ((name, measured[name]) for name in ROWS if name in measured):
            family = ROWS[name][0]
            same = [row for row, (other, _, _) in ROWS.items() if other == family]
            style = {"marker": mark(same.index(name)), "color": colour(families.index(family)), "linestyle": "none"}
            label = f"{name} ({family})" if family else name
            axis.plot(own["bytes a task"], np.mean(own["accuracy"]), label=label, **style)
        axis.set(xlabel="what a further task takes", ylabel="accuracy at the end", ylim=(0, 1), title=stream)
        log_axis(axis, "x", lambda size: f"{size / 1e3:g} kB")
    legend(fig, *axes, columns=3)
    fig.savefig(PICTURE, dpi=120)


def report(folder: Path) -> None:
    """Write a report of the finished runs of both streams."""
    paths = [folder_of(folder, stream, name) for stream in STREAMS for name in ROWS]
    runs = [open_run(path) for path in paths if (path / "log.h5").exists()]
    write_report([found for found in runs if found.status == "finished"], REPORT)


def main() -> None:
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["run", folder, *names]:
            run(Path(folder), names)
        case ["report", folder]:
            report(Path(folder))
        case ["picture"]:
            picture()
        case _:
            table()


if __name__ == "__main__":
    main()
