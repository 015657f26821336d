"""A detector adapted to domains without labels: AP on the source and on the target, by method, at three shifts.

PYTHONPATH=. python benchmarks/align_vehicles.py measure 0    # and 1, 2: output/align_vehicles_SEED.json
PYTHONPATH=. python benchmarks/align_vehicles.py | tee benchmarks/output/align_vehicles.txt    # tables from those files
PYTHONPATH=. python benchmarks/align_vehicles.py choose 0.3    # and 1: weights of judges, on scenes of no table
PYTHONPATH=. python benchmarks/align_vehicles.py draw > benchmarks/output/align_vehicles_drawn.txt    # docs/align_vehicles.png
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.data.stream import Stream
from cl_engine.experiment import Experiment
from cl_engine.modules.domain_judges import DomainsJudged
from cl_engine.strategy import Strategy
from cl_engine.testing.walking import after_each_task

OUTPUT = Path(__file__).parent / "output"
PICTURE = Path(__file__).parents[1] / "docs" / "align_vehicles.png"
DOMAINS = ("clear", "mild", "moderate", "severe")
CHOICE = 9  # seed of scenes that options are chosen on
COLUMNS = 8  # pictures
T_95 = 4.303  # of three seeds
CHANGES: dict[str, Any] = {
    "stream.domains": list(DOMAINS),
    "stream.unlabelled": [1, 2, 3],
    "source_rows": 1000,
    "adapt_epochs": 4,
}
WAYS: dict[str, dict[str, Any]] = {
    "features": {"align": ["features"]},
    "predictions": {"align": ["predictions"]},
    "both": {"align": ["features", "predictions"]},
    "statistics": {"method": "statistics"},
}
HELD: list[Any] = []  # of a process: seed, stream and the detector of the clear domain


def experiment(seed: int, **options: Any) -> Experiment:
    """Return the experiment of a seed, which has scenes of its own too."""
    return Experiment.of("align_vehicles", "align", (seed,), **{**CHANGES, "stream.seed": seed, **options})


def source(seed: int) -> tuple[Stream, Strategy]:
    """Return the stream, and the detector of the clear domain."""
    return next(after_each_task(experiment(seed, method="none")))


def adapted(
    seed: int, stream: Stream, held: Strategy, domain: int, **options: Any
) -> tuple[Strategy, dict[str, float]]:
    """Return the detector adapted to a domain, and how often its judges are right at the end."""
    strategy = experiment(seed, **options).build_strategy(stream)
    strategy.state = copy.deepcopy(held.state)
    told = [event for event in strategy.learning(stream.arrival(domain)) if isinstance(event, DomainsJudged)]
    return strategy, {event.part: round(event.accuracy[0], 3) for event in told}


def precision(stream: Stream, strategy: Strategy, task: int) -> float:
    """Return the average precision on the test pictures of a domain."""
    rows, target = stream.test(task), stream.target(task)
    return round(float(target.score(target.sums_by_seed(strategy.predict(rows.x, None), rows.y))[0]), 4)


def hand(*shared: Any) -> None:
    """Keep what all shifts begin with, in the process that is to see to one."""
    HELD[:] = shared


def of_shift(task: int) -> dict[str, list[float]]:
    """Return the AP on source and target after each way of adaptation to one shift."""
    seed, stream, held = HELD
    found = {"source only": [precision(stream, held, at) for at in (0, task)]}
    for way, options in WAYS.items():
        started = time.process_time()
        strategy, judges = adapted(seed, stream, held, task, **options)
        found[way] = [precision(stream, strategy, at) for at in (0, task)]
        spent = time.process_time() - started
        print(seed, DOMAINS[task], way, found[way], judges, f"{spent:.0f} s of CPU", flush=True)
    return found


def measure(seed: int) -> None:
    """Write the AP on source and target of every way at every shift, for one seed; the shifts side by side."""
    stream, held = source(seed)
    with multiprocessing.get_context("fork").Pool(3, hand, (seed, stream, held)) as pool:
        ends = pool.map(of_shift, range(1, len(DOMAINS)), chunksize=1)
    found = dict(zip(DOMAINS[1:], ends, strict=True))
    (OUTPUT / f"align_vehicles_{seed}.json").write_text(json.dumps({"seed": seed, "ap": found}) + "\n")


def choose(weight: float) -> None:
    """Print the AP at the moderate shift for a weight of either judge, on scenes of another seed than any table's."""
    stream, held = source(CHOICE)
    for way in ("features", "predictions"):
        strategy, judges = adapted(CHOICE, stream, held, 2, **WAYS[way], weight=weight, weight_predictions=weight)
        print(way, "weight", weight, [precision(stream, strategy, at) for at in (0, 2)], judges, flush=True)


def interval(values: np.ndarray) -> str:
    """Return mean and 95 % interval over seeds."""
    return f"{values.mean():+.3f} ± {T_95 * values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def told(runs: list[dict[str, Any]]) -> None:
    """Print a table a shift, and the claim."""
    print(
        f"seeds {[run['seed'] for run in runs]}: AP at an overlap of .5 on test pictures; mean ± 95 % interval over seeds"
    )
    for name in DOMAINS[1:]:
        ends = {way: np.array([run["ap"][name][way] for run in runs]) for way in runs[0]["ap"][name]}
        print(f"\n{name}\n{'':<16}{'source':<18}{'target':<18}{'change, source':<18}change, target")
        for way, end in ends.items():
            change = end - ends["source only"]
            columns = [*(interval(end[:, k]).lstrip("+") for k in (0, 1)), *(interval(change[:, k]) for k in (0, 1))]
            print(f"{way:<16}" + "".join(f"{column:<18}" for column in columns).rstrip())
        for one, other in (("predictions", "features"), ("both", "features")):
            gap = ends[one] - ends[other]
            print(
                f"{one} − {other}: source {interval(gap[:, 0])}, target {interval(gap[:, 1])}; target, each seed:",
                end="",
            )
            print("".join(f" {value:+.3f}" for value in gap[:, 1]))


def draw() -> None:
    """Draw what a detector finds in the same test pictures of the moderate shift before and after adaptation.

    Drawn are the surest answers to all test pictures, as many as there are vehicles in them.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from cl_engine.analysis.plots.predictions import detections

    figure, axes = plt.subplots(3, COLUMNS, figsize=(10.6, 4.4), dpi=80)
    (stream, held), task = source(0), DOMAINS.index("moderate")
    rows, target = stream.test(task), stream.target(task)
    ways = {way: adapted(0, stream, held, task, **WAYS[way])[0] for way in ("features", "predictions")}
    for own, (way, strategy) in zip(axes, {"source only": held, **ways}.items(), strict=True):
        answers = target.answers(strategy.predict(rows.x, None)[0]).numpy()
        vehicles = int((rows.y[..., 0] >= 0).sum())
        surest = np.sort(answers[..., 4].ravel())[::-1]
        print(
            f"{way}: {vehicles} vehicles, answers of an even chance {int((surest >= 0.5).sum())}, "
            f"confidence of the last that is drawn {surest[vehicles - 1]:.3f}",
            flush=True,
        )
        answers[..., 4] = answers[..., 4] >= surest[vehicles - 1]
        for axis, image, wanted, found in zip(own, rows.x, rows.y.numpy(), answers, strict=False):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            detections(axis, wanted, found)
        own[0].set_title(way, fontsize=9, loc="left")
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(PICTURE)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        measure(int(sys.argv[2]))
    elif sys.argv[1:2] == ["choose"]:
        choose(float(sys.argv[2]))
    elif sys.argv[1:2] == ["draw"]:
        draw()
    else:
        told([json.loads(file.read_text()) for file in sorted(OUTPUT.glob("align_vehicles_*.json"))])


if __name__ == "__main__":
    main()
