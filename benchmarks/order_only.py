"""Compositional Models: new domains met without labels by re-ordering alone, with few blocks and with more.

    PYTHONPATH=. python benchmarks/order_only.py [SOURCE [PROCESSES [BLOCKS …]]] | tee benchmarks/output/order_only_digits.txt

Upright digits and digits turned by 60 and 120 degrees train blocks together; those turned by the angles between come without
labels. All tasks share norms and head, so that an order of blocks is all that tells them apart. Five seeds; SOURCE is ``digits``,
seconds a seed, or ``mnist``, which is looked for under $CL_DATA_ROOT. Old orders are chosen by the labels of the new domain's
training rows, or by how certain the answers to them are; test rows are scored alone. Differences are paired by seed, after a
mean over the three domains.
"""

from __future__ import annotations

import copy
import multiprocessing
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.interleaved import machine, saved
from cl_engine.analysis.scores.run_scores import interval
from cl_engine.analysis.scores.statistics import mean_and_deviation, signed_rank
from cl_engine.data.stream import Data, Stream
from cl_engine.experiment import Experiment
from cl_engine.modules.reordering import certainty
from cl_engine.strategies.compose import Compose

SEEDS, BLOCKS, JOINT, TASKS = (2, 3, 4, 5, 6), (4, 8), 3, 6
BEST, CERTAIN, FREE, LABELS = (
    "best old order",
    "most certain old order",
    "re-ordered, no labels",
    "re-ordered by labels",
)
SIZES: dict[str, dict[str, float]] = {
    "digits": {
        "rows": 40,
        "tested": 80,
        "width": 32,
        "steps": 5,
        "side": 8,
        "batch": 100,
        "lr": 1e-2,
        "adapt": 8,
        "refine": 1,
    },
    "mnist": {
        "rows": 50,
        "tested": 100,
        "width": 64,
        "steps": 6,
        "side": 28,
        "batch": 32,
        "lr": 2e-3,
        "adapt": 10,
        "refine": 3,
    },
}
SCENARIO = """
[stream]
name = "rotated"
source = "{source}"
setting = "task"
n = 6
degrees = 180
task_order = [0, 2, 4, 1, 3, 5]
samples_per_class = {rows}
test_samples_per_class = {tested}
unlabelled = [3, 4, 5]
[net]
name = "isometric"
width = {width}
steps = {steps}
patch = {side}
kernel = 1
[train]
epochs = 12
batch = {batch}
optimizer = "adam"
lr = {lr}
[strategy.compose]
joint = 3
common = ["norms", "head"]
spread = 1.0
rows = 300
adapt_epochs = {adapt}
refine = {refine}
"""


def built(scenario: Path, seed: int, blocks: int, labelled: bool) -> tuple[Stream, Compose]:
    """Return the stream, with all labels or without those of new domains, and a learner in its first state."""
    asked = {"stream.unlabelled": []} if labelled else {}
    experiment = Experiment.of(scenario, "compose", (seed,), blocks=blocks, **asked)
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    assert isinstance(learner, Compose)
    learner.state = learner.start()
    return stream, learner


def learned(learner: Compose, stream: Stream, steps: range) -> None:
    """Learn some experiences, one after the other."""
    for step in steps:
        for _ in learner.learn(stream[step]):
            pass


def accuracy(learner: Compose, task: int, rows: Data) -> float:
    """Return the accuracy of a task's order on rows."""
    return float((learner.predict(rows.x, task).argmax(-1) == rows.y).float().mean())


def measured(scenario: Path, job: tuple[int, int]) -> dict[str, list[float]]:
    """Return accuracy on the new domains by what is done about them, and on the old ones before and after, of one seed."""
    torch.set_num_threads(1)
    blocks, seed = job
    labelled, other = built(scenario, seed, blocks, labelled=True)
    stream, learner = built(scenario, seed, blocks, labelled=False)
    learned(learner, stream, range(JOINT))
    other.state = copy.deepcopy(learner.state)
    found: dict[str, list[float]] = {"before": [accuracy(learner, old, stream.test(old)) for old in range(JOINT)]}
    for task in range(JOINT, TASKS):
        rows, test = labelled[task].train, stream.test(task)
        scores = [accuracy(learner, old, test) for old in range(JOINT)]
        right = [accuracy(learner, old, rows) for old in range(JOINT)]
        certain = [float(certainty(learner.predict(rows.x, old))) for old in range(JOINT)]
        for name, by in ((BEST, right), (CERTAIN, certain)):
            found.setdefault(name, []).append(scores[int(np.argmax(by))])
    for name, who, where in ((FREE, learner, stream), (LABELS, other, labelled)):
        learned(who, where, range(JOINT, TASKS))
        found[name] = [accuracy(who, task, stream.test(task)) for task in range(JOINT, TASKS)]
        print(job, name, found, file=sys.stderr, flush=True)
    found["after"] = [accuracy(learner, old, stream.test(old)) for old in range(JOINT)]
    return found


def lines(blocks: int, of_seeds: list[dict[str, list[float]]]) -> list[str]:
    """Return the rows of a table: what is done, accuracy by domain, and what that gains beside the best old order."""
    found = {name: np.array([own[name] for own in of_seeds]) for name in of_seeds[0]}  # [S, domains]
    old = [mean_and_deviation(found[when].mean(axis=1)) for when in ("before", "after")]
    said = [f"{blocks} blocks; old domains {old[0]} before, {old[1]} after"]
    for name in (BEST, CERTAIN, FREE, LABELS):
        gain = (found[name] - found[BEST]).mean(axis=1)
        beside = f"{gain.mean():+.3f} ± {float(interval(gain)):.3f}  p {signed_rank(gain):.3f}" if name != BEST else ""
        each = "".join(f"{score:>7.3f}" for score in found[name].mean(axis=0))
        said.append(f"  {name:<24}{each}{mean_and_deviation(found[name].mean(axis=1)):>16}   {beside}".rstrip())
    return said


def main(source: str = "digits", processes: int = 2, *blocks: int) -> None:
    """Print a table for each number of blocks."""
    torch.set_num_threads(1)  # a process with threads must not be forked
    print(f"{source}; {machine()['cpu']}, torch {torch.__version__}, seeds {SEEDS[0]} to {SEEDS[-1]}, one thread each")
    print(
        "± of a gain is the 95 % t interval, of a mean the sample deviation; p of the signed-rank test, .062 at least"
    )
    print(f"{'':<26}{'30°':>7}{'90°':>7}{'150°':>7}{'mean':>16}   gain beside the best old order", flush=True)
    jobs = [(count, seed) for count in reversed(blocks or BLOCKS) for seed in SEEDS]
    with TemporaryDirectory() as folder, multiprocessing.get_context("fork").Pool(processes) as pool:
        scenario = Path(folder) / "order_only.toml"
        scenario.write_text(SCENARIO.format(source=source, **SIZES[source]))
        found = dict(zip(jobs, pool.map(partial(measured, scenario), jobs, chunksize=1), strict=True))
    for count in blocks or BLOCKS:
        print("\n".join(lines(count, [found[count, seed] for seed in SEEDS])), flush=True)
    saved(f"order_only_{source}", {f"{count} blocks, seed {seed}": values for (count, seed), values in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
