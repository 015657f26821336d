"""What it takes to keep the nets of many tasks, whole or as codes: accuracy lost, bytes and seconds a task, for all of them.

    PYTHONPATH=. python benchmarks/codes.py [TASKS …] [ROW …] | tee benchmarks/output/codes.txt
    PYTHONPATH=. python benchmarks/codes.py picture

TASKS are 10, 50 and 200 if none are named, a ROW is one of `ROWS`, all if none are named; whole nets are always measured.

All learn the same tasks, permutations of scikit-learn's digits (50 rows a class), with nets of 1,810 weights that start from the
same weights; whole nets are those of `independent`, and what `skill_recall` encodes is what it learns. Lost is accuracy on
test rows at the end against whole nets'; bytes are those that decoding reads (`cl_engine.recall.kept`), a generator or decoder
and all codes; seconds are the CPU's, with learning and the one test at the end. One seed. The picture has the frontier as a line:
what no other beats in both.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from cl_engine.engine.agenda import Learn
from cl_engine.engine.loop import simulate
from cl_engine.events import TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.recall.kept import KeepsNets, recall_bytes

COUNTS = (10, 50, 200)
OUTPUT, DRAWN = Path("benchmarks/output/codes.txt"), Path("docs/codes.png")
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole nets": ("independent", {}),
    "quantised, 5 bits": ("skill_recall", {"codec": "quantised"}),
    "quantised, 3 bits": ("skill_recall", {"codec": "quantised", "bits": 3}),
    "basis, residual .9": ("skill_recall", {"codec": "basis", "threshold": 0.9, "decoder_bits": 5}),
    "autoencoders of 20": ("skill_recall", {}),
    "one autoencoder of 20": ("skill_recall", {"block": 0, "latent": 20, "max_passes": 1}),
    "mean": ("skill_recall", {"codec": "mean"}),
    "hypernet": ("hypernet", {"code": 32}),
    "hypernet_field": ("hypernet_field", {"code": 32}),
}
SMALL: dict[str, Any] = {"stream.samples_per_class": 50}
AT_THE_TOP = 5e-4  # accuracy lost that the picture does not tell from none
COLOURS = {"whole": "#000000", "quantised": "#D55E00", "basis": "#009E73", "mean": "#999999", "hypernet": "#CC79A7"}


def measured(strategy: str, options: dict[str, Any], tasks: int) -> tuple[float, float, float]:
    """Return accuracy at the end, bytes a task and CPU seconds a task."""
    experiment = Experiment.of("hypernet_digits", strategy, (0,), **{**SMALL, "stream.n": tasks, **options})
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    assert isinstance(learner, KeepsNets)
    began = time.process_time()
    for event in simulate(stream, learner, map(Learn, range(tasks))):
        if isinstance(event, TaskLearned) and event.step % 10 == 9:
            print(f"{strategy}: {event.step + 1} tasks", file=sys.stderr, flush=True)
    right = []
    for task in range(tasks):
        rows = stream.test(task)
        right.append(float((learner.net.all(learner.decoded(task), rows.x).argmax(-1) == rows.y).float().mean()))
    return float(np.mean(right)), recall_bytes(learner) / tasks, (time.process_time() - began) / tasks


def table(tasks: int, names: list[str]) -> None:
    print(f"\n{tasks} tasks\n{'':<24}{'accuracy':>10}{'lost':>10}{'bytes a task':>15}{'CPU s a task':>15}")
    whole = None
    for name in ["whole nets", *names]:
        accuracy, size, seconds = measured(*ROWS[name], tasks)
        whole = accuracy if whole is None else whole
        print(f"{name:<24}{accuracy:>10.4f}{whole - accuracy:>10.4f}{size:>15,.0f}{seconds:>15.2f}", flush=True)


def printed() -> dict[int, dict[str, tuple[float, float]]]:
    """Return bytes a task and accuracy lost by number of tasks and row, from what was printed, in whatever pieces."""
    found: dict[int, dict[str, tuple[float, float]]] = {}
    for tasks, lines in re.findall(r"^(\d+) tasks\n.*\n((?:.+\n)+)", OUTPUT.read_text(), re.MULTILINE):
        for line in lines.splitlines():
            name, *cells = re.split(r"  +", line.strip())
            found.setdefault(int(tasks), {})[name] = (float(cells[2].replace(",", "")), float(cells[1]))
    return found


def frontier(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both bytes and accuracy lost, by bytes."""
    found: list[tuple[float, float]] = []
    for point in sorted(points):
        if not found or point[1] < found[-1][1]:
            found.append(point)
    return found


def picture() -> None:
    """Draw accuracy lost against bytes a task, and the frontier, from what was printed."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parts = printed()
    figure, axes = plt.subplots(1, len(parts), figsize=(5 * len(parts), 4.2), squeeze=False, layout="constrained")
    for axis, (tasks, points) in zip(axes[0], sorted(parts.items()), strict=True):
        best = frontier(points.values())
        line = [(size, max(AT_THE_TOP, lost)) for size, lost in best]
        axis.plot(*zip(*line, strict=True), color="#BBBBBB", drawstyle="steps-post", zorder=0)
        named: dict[tuple[float, float], list[str]] = {}
        for name, (size, lost) in points.items():
            named.setdefault((size, max(AT_THE_TOP, lost)), []).append(name)
        for at, names in named.items():
            colour = next((of for family, of in COLOURS.items() if names[0].startswith(family)), "#0072B2")
            axis.plot(*at, "o", color=colour)
            text = {"fontsize": 7, "rotation": -35, "rotation_mode": "anchor", "va": "top"}
            axis.annotate("\n".join(names), at, xytext=(3, -4), textcoords="offset points", **text)
        axis.margins(x=0.25)
        axis.invert_yaxis()
        axis.set(title=f"{tasks} tasks", xlabel="bytes a task", xscale="log", yscale="log")
    axes[0, 0].set_ylabel("accuracy lost (.0005 or less: at the top)")
    figure.savefig(DRAWN, dpi=110)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] == ["picture"]:
        picture()
        return
    print(f"torch {torch.__version__}, one thread, one seed")
    names = [name for name in sys.argv[1:] if not name.isdigit()] or [name for name in ROWS if name != "whole nets"]
    for tasks in [int(name) for name in sys.argv[1:] if name.isdigit()] or COUNTS:
        table(tasks, names)


if __name__ == "__main__":
    main()
