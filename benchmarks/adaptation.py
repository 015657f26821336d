"""Adaptation to a domain without labels: accuracy on source and target by method, at four shifts.

PYTHONPATH=. python benchmarks/adaptation.py measure 0    # and 1, 2, 3 (MNIST): output/adaptation_K.json
PYTHONPATH=. python benchmarks/adaptation.py | tee benchmarks/output/adaptation.txt    # tables from those files
"""

from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

OUTPUT = Path(__file__).parent / "output"
SEEDS = (0, 1, 2)
T_95 = 4.303  # of three seeds
SHIFTS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits turned by 20°": ("align_digits", {"stream.degrees": 40.0}),
    "digits turned by 30°": ("align_digits", {}),
    "digits turned by 45°": ("align_digits", {"stream.degrees": 90.0}),
    "MNIST to digits": ("align_mnist_digits", {}),
}
WAYS: dict[str, dict[str, Any]] = {
    "source only": {"method": "none"},
    "features": {"align": ["features"]},
    "predictions": {"align": ["predictions"]},
    "both": {"align": ["features", "predictions"]},
    "features, reversal": {"align": ["features"], "adversary": "reversal"},
    "statistics": {"method": "statistics"},
    "teacher": {"method": "teacher"},
    "shot": {"method": "shot"},
    "oracle (labels)": {"stream.unlabelled": []},
}


def learned(way: str, scenario: str, changes: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Return the accuracy on both domains after each of them, by seed."""
    experiment = Experiment.of(scenario, "align", SEEDS, **{**changes, **WAYS[way]})
    with tempfile.TemporaryDirectory() as folder:
        R = open_run(experiment.run(folder, device="cpu")).results["accuracy"]
        found = {str(seed): R.sel(seed=seed).values[-2:].astype(float).round(4).tolist() for seed in SEEDS}
    print(scenario, changes, way, found, flush=True)
    return found


def measure(place: int) -> None:
    """Write the accuracy on both domains after each of them, of every way at a shift, by seed; three ways side by side."""
    shift, (scenario, changes) = list(SHIFTS.items())[place]
    with ProcessPoolExecutor(3) as pool:
        found = dict(zip(WAYS, pool.map(learned, WAYS, repeat(scenario), repeat(changes)), strict=True))
    (OUTPUT / f"adaptation_{place}.json").write_text(json.dumps({shift: found}) + "\n")


def interval(values: np.ndarray) -> str:
    """Return mean and 95 % interval over seeds."""
    return f"{values.mean():+.3f} ± {T_95 * values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def told() -> None:
    """Print a table a shift."""
    files = sorted(OUTPUT.glob("adaptation_*.json"))
    runs = {shift: ways for file in files for shift, ways in json.loads(file.read_text()).items()}
    print(
        f"accuracy on test rows after adaptation, mean ± 95 % interval over seeds {list(SEEDS)}; change: less source only"
    )
    for shift, ways in runs.items():
        ends = {way: np.array([of_seed[-1] for of_seed in by_seed.values()]) for way, by_seed in ways.items()}
        print(f"\n{shift}\n{'':<20}{'source':<18}{'target':<18}{'change, source':<18}{'change, target':<18}")
        for way, end in ends.items():
            change = end - ends["source only"]
            columns = [*(interval(end[:, k]).lstrip("+") for k in (0, 1)), *(interval(change[:, k]) for k in (0, 1))]
            print(f"{way:<20}" + "".join(f"{column:<18}" for column in columns))
        for one, other in (("predictions", "features"), ("both", "features")):
            if one not in ends:
                continue
            gap = ends[one] - ends[other]
            print(f"{one} − {other}: source {interval(gap[:, 0])}, target {interval(gap[:, 1])}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        for place in map(int, sys.argv[2:]):
            measure(place)
    else:
        told()
