"""Radio: nets by environment against one net, where labels are bad; forgetting by environment; accuracy by SNR.

PYTHONPATH=. python benchmarks/cognitive.py measure 0    # and 1, 2: output/cognitive_SEED.json, a few CPU-minutes each
PYTHONPATH=. python benchmarks/cognitive.py | tee benchmarks/output/cognitive.txt    # tables from those files
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.testing.walking import after_each_task

OUTPUT = Path(__file__).parent / "output"
SNR = tuple(range(-20, 19, 2))  # dB: the levels of RadioML 2016.10a
# of the loop: everything is one environment, so there is one net, which is fitted where that is better on trusted rows
GATED = {"near": 1e6, "candidates": ["keep", "shared"]}
WIDE = 4800  # training frames over all levels


def run_of(scenario: str, strategy: str, seed: int, **options: Any) -> tuple[np.ndarray, list[int], Any]:
    """Return R ``[experience + 1, task]``, the task of each experience, and the table of events, of one seed of all."""
    experiment = Experiment.of(scenario, strategy, (seed,), **{"stream.seed": seed, **options})
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(experiment.run(folder, device="cpu"))
        R = run.results["accuracy"].sel(seed=seed).values
        tasks = run.table("experiences").sort_values("step")["task"].astype(int).tolist()
        events = run.table("events")
    return R, tasks, events


def matched(events: Any) -> tuple[list[int], list[float]]:
    """Return of each segment whether its environment was recognised, or found new if it was, and the distances."""
    table = events[events["kind"] == "EnvironmentMatched"]
    entries: dict[int, int] = {}
    right, distances, held = [], [], 0
    for _, own in table.groupby("step"):
        fact = own.set_index("name")["value"]
        task, entry, near = (int(fact[name]) for name in ("task_id", "entry", "near"))
        right.append(int(entries.get(task) == entry if near else task not in entries))
        distances.append(float(fact["distance"]))
        if not near:
            entries.setdefault(task, held)
            held += 1
    return right, distances


def by_snr(seed: int) -> list[float]:
    """Return the accuracy on frames of each level, of a net trained on frames of all levels."""
    environments = [{"snr": [SNR[0], SNR[-1]]}, *({"snr": [level, level]} for level in SNR)]
    changes = {"stream.environments": environments, "stream.frames": WIDE, "stream.seed": seed}
    stream, strategy = next(after_each_task(Experiment.of("radio_environments", "finetune", (seed,), **changes)))
    tests = [stream.test(task) for task in range(1, len(environments))]
    return [float((strategy.predict(rows.x, None)[0].argmax(1) == rows.y).double().mean()) for rows in tests]


def measured(seed: int) -> dict[str, Any]:
    """Return all that is told of one seed."""
    found: dict[str, Any] = {"seed": seed}
    for strategy in ("finetune", "cognitive_loop"):
        R, tasks, events = run_of("radio_loop", strategy, seed)
        found[strategy] = {"R": R.tolist(), "tasks": tasks}
        if strategy == "cognitive_loop":
            found[strategy]["matched"], found[strategy]["distances"] = matched(events)
        print(seed, strategy, flush=True)
    found["gated"] = {"R": run_of("radio_loop", "cognitive_loop", seed, **GATED)[0].tolist()}
    found["snr"] = by_snr(seed)
    for strategy in ("finetune", "replay"):
        found[f"environments {strategy}"] = run_of("radio_environments", strategy, seed)[0].tolist()
        print(seed, strategy, flush=True)
    return found


def told(runs: list[dict[str, Any]]) -> None:
    """Print the tables."""
    noise = np.array(Experiment.of("radio_loop", "finetune").resolved["stream"]["noise"])

    def line(name: str, values: list[float]) -> None:
        spread = 4.303 * np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) == 3 else float("nan")
        print(f"{name:<46}{np.mean(values):.3f} ± {spread:.3f}  ({', '.join(f'{one:+.3f}' for one in values)})")

    print(f"seeds {[run['seed'] for run in runs]}, mean ± 95 % interval, and each seed")
    print("gated: one net, fitted where that is better on trusted rows; static: the net after the first segment")
    print("\nthe loop: accuracy on test frames of each segment's environment, after it")
    ways: dict[str, list[np.ndarray]] = {"finetune": [], "cognitive_loop": [], "gated": [], "static": []}
    for run in runs:
        tasks = run["finetune"]["tasks"]
        for strategy in ("finetune", "cognitive_loop", "gated"):
            R = np.array(run[strategy]["R"])[-len(noise) :]
            ways[strategy].append(R[np.arange(len(noise)), tasks])
            if strategy == "finetune":
                ways["static"].append(R[0, tasks])
    for name, segments in (("bad labels", noise > 0), ("clean labels", noise == 0), ("all", noise >= 0)):
        for way, rows in ways.items():
            line(f"{name}, {way}", [float(row[segments].mean()) for row in rows])
        pairs = zip(ways["cognitive_loop"], ways["finetune"], strict=True)
        line(f"{name}, cognitive − finetune", [float((a - b)[segments].mean()) for a, b in pairs])
        pairs = zip(ways["cognitive_loop"], ways["gated"], strict=True)
        line(f"{name}, cognitive − gated", [float((a - b)[segments].mean()) for a, b in pairs])
    print("\nall four environments at the end")
    ends = {s: np.array([run[s]["R"][-1] for run in runs]) for s in ("finetune", "cognitive_loop", "gated")}
    for strategy, end in ends.items():
        line(strategy, end.mean(axis=1).tolist())
    gaps = ends["cognitive_loop"] - ends["finetune"]
    line("cognitive − finetune", gaps.mean(axis=1).tolist())
    print(f"better in {int((gaps > 0).sum())} of {gaps.size} environments and seeds")
    line("cognitive − gated", (ends["cognitive_loop"] - ends["gated"]).mean(axis=1).tolist())
    print("\nsegments whose environment was recognised, or found new where it was")
    for run in runs:
        print(run["seed"], sum(run["cognitive_loop"]["matched"]), "of", len(noise), run["cognitive_loop"]["matched"])
        print("  distances", " ".join(f"{one:.3f}" for one in run["cognitive_loop"]["distances"]))
    if all("environments replay" in run for run in runs):
        print("\none environment after the other: after its own experience, at the end, drop")
        for strategy in ("finetune", "replay"):
            every = [np.array(run[f"environments {strategy}"])[-4:] for run in runs]
            for task, name in enumerate(("12 to 18 dB", "0 to 6 dB", "offset", "4 taps")):
                own, end = [float(R[task, task]) for R in every], [float(R[-1, task]) for R in every]
                print(f"{strategy:<10}{name:<14}{np.mean(own):.3f} {np.mean(end):.3f}", end="  ")
                line("", [a - b for a, b in zip(own, end, strict=True)])
    print(f"\naccuracy by SNR, one net on {WIDE} frames of {SNR[0]} to {SNR[-1]} dB; chance is .125")
    for level, values in zip(SNR, zip(*(run["snr"] for run in runs), strict=True), strict=True):
        line(f"{level:+d} dB", list(values))


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        for seed in map(int, sys.argv[2:]):
            (OUTPUT / f"cognitive_{seed}.json").write_text(json.dumps(measured(seed)) + "\n")
        return
    told([json.loads(file.read_text()) for file in sorted(OUTPUT.glob("cognitive_*.json"))])


if __name__ == "__main__":
    main()
