"""The reference runs in `results/reference`: eight small streams that need no files, four strategies, eight seeds.

    python benchmarks/reference.py

from the root of the repository makes them (a few minutes on one core; what is there already is kept), and the tables and
pictures that compare them.
"""

from __future__ import annotations

from pathlib import Path

from cl_engine.analysis.comparison.command import save_comparison_pictures
from cl_engine.analysis.comparison.compare import compared
from cl_engine.analysis.comparison.tables import written
from cl_engine.analysis.report.page import write_report
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs.scenario import Scenario

OUT = Path("results/reference")
STRATEGIES = ("finetune", "replay", "piggyback", "independent")
SEEDS = tuple(range(8))  # with six pairs of strategies, fewer could not be significant after correction
FEW = {"setting": "task", "samples_per_class": 30, "test_samples_per_class": 30}
STREAMS = {
    "permuted_digits": {"name": "permuted", "source": "digits", "n": 5, **FEW},
    "rotated_digits": {"name": "rotated", "source": "digits", "n": 5, **FEW},
    "split_digits": {"name": "split", "source": "digits", "n": 5, **FEW},
    "one_digit_against": {"name": "one_against", "source": "digits", "n": 5, **FEW},
    "compositional_digits": {"name": "compositional", "n": 5, **FEW},
    "permuted_mnist1d": {"name": "permuted", "source": "mnist1d", "n": 5, **FEW},
    "split_mnist1d": {"name": "split", "source": "mnist1d", "n": 5, **FEW},
    "one_signal_against": {"name": "one_against", "source": "mnist1d", "n": 5, **FEW},
}
TABLES = {
    "net": {"name": "mlp", "hidden": [64, 64]},
    "train": {"epochs": 5, "batch": 16, "optimizer": "adam", "lr": 1e-3},
    # the stability gap is in the first steps on a task: they are tested one by one
    "agenda": {"evaluate_ahead": 1, "curve_batches": 5, "curve_epochs": 1, "curve_tasks": 4},
    "strategy": {"replay": {"samples": 200}, "piggyback": {"mask_lr": 1e-3}},
}


def main() -> None:
    folders = []
    for name, stream in STREAMS.items():
        scenario = Scenario.of(name, {"stream": stream, **TABLES})
        for strategy in STRATEGIES:
            folder = Experiment.of(scenario, strategy, SEEDS).run(
                OUT / f"{name}-{strategy}", device="cpu", command="python benchmarks/reference.py"
            )
            for left in ("checkpoint.safetensors", ".lock"):  # the log is what is published
                (folder / left).unlink(missing_ok=True)
            folders.append(folder)
            print(folder.name, flush=True)
    runs = [open_run(folder) for folder in folders]
    comparison = compared(runs)
    (OUT / "comparison.md").write_text(written(comparison, "markdown"), encoding="utf-8")
    (OUT / "comparison.json").write_text(written(comparison, "json"), encoding="utf-8")
    save_comparison_pictures(comparison, OUT / "pictures")
    write_report(runs, OUT / "report.html")


if __name__ == "__main__":
    main()
