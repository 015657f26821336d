"""Which task to practise: six compositions of two inputs and three rules; and compositions that have not come before.

PYTHONPATH=. python benchmarks/sampling.py measure FOLDER    # runs five seeds side by side: output/sampling.json
PYTHONPATH=. python benchmarks/sampling.py | tee benchmarks/output/sampling.txt    # tables from that file, and the orders held
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run

OUTPUT = Path(__file__).parent / "output" / "sampling.json"
SEEDS = (0, 1, 2, 3, 4)
UNIFORM = "one net, conditioned, uniform"
ALONE, UNTOLD = "six nets of their own", "one net, not told the input module"
RULES = ("loss", "progress", "classes", "error")
UNSEEN = (6, 7, 8)
GUESS = {"parity": 0.5, "loops": 0.6, "digit": 0.1}  # of the most frequent answer, all digits being as frequent


def scores(scenario: str, strategy: str, out: Path, **changes: Any) -> np.ndarray:
    """Return R ``[evaluations, tasks, seeds]``; the run stays in ``out``, and one that is there is not done again."""
    experiment = Experiment.of(scenario, strategy, SEEDS, **changes)
    found: np.ndarray = open_run(experiment.run(out, device="cpu")).results["score"].values
    return found


def measured(folder: Path) -> dict[str, Any]:
    """Return accuracies by task and seed: of each way to learn them at the end, and on what has not come before."""
    began, last, ahead = time.perf_counter(), {}, {}
    last[ALONE] = scores("sampling_mnist", "independent", folder / "own")[-1].tolist()
    ways: dict[str, dict[str, Any]] = {UNTOLD: {"conditioning": False}, UNIFORM: {}}
    ways |= {rule: {"sampling": rule, "losses_from": str(folder / "own")} for rule in RULES}
    ways["loss, by the first epoch"] = {"sampling": "loss"}
    for number, (way, options) in enumerate(ways.items()):
        last[way] = scores("sampling_mnist", "conditioned", folder / str(number), **options)[-1].tolist()
        print(way, np.mean(last[way], axis=1).round(3), flush=True)
    for conditioning in (True, False):
        name = "conditioned" if conditioning else "head alone"
        R = scores("compositions_mnist", "conditioned", folder / name, conditioning=conditioning)[:, UNSEEN]
        six = len(R) - len(UNSEEN) - 1  # the row of R after six experiences; the first is that of the untrained net
        ahead[name] = {part: R[row].T.tolist() for part, row in (("untrained", 0), ("unseen", six), ("learned", -1))}
        print(name, {part: np.mean(own, axis=0).round(3) for part, own in ahead[name].items()}, flush=True)
    return {"last": last, "ahead": ahead, "seconds": time.perf_counter() - began}


def told(found: dict[str, Any]) -> None:
    """Print the tables, and in how many seeds each order holds."""
    ways, each = list(found["last"]), {way: np.array(own) for way, own in found["last"].items()}  # [tasks, seeds]
    mean, worst = {way: each[way].mean(axis=0) for way in ways}, {way: each[way].min(axis=0) for way in ways}
    print(f"seeds {list(SEEDS)}, {found['seconds']:.0f} s; accuracy on test rows, sample deviation over seeds;")
    print(f"in brackets the difference to '{UNIFORM}', and in how many seeds it is above")
    print(f"{'':<36}{'mean of tasks':>32}{'worst task':>32}")
    for way in ways:
        cells = ""
        for of in (mean, worst):
            gap = of[way] - of[UNIFORM]
            beside = "" if way == UNIFORM else f" ({gap.mean():+.3f}, {(gap > 0).sum()})"
            cells += f"{f'{of[way].mean():.3f} ± {of[way].std(ddof=1):.3f}{beside}':>32}"
        print(f"{way:<36}{cells}")
    lead, low = mean[UNIFORM] - mean[ALONE], worst[UNIFORM] - worst[ALONE]
    print(
        f"\nconditioned − six nets: mean {lead.mean():+.3f}, above in {(lead > 0).sum()}; worst above in {(low > 0).sum()}"
    )
    print(f"conditioned ≥ not told, mean of tasks: in {(mean[UNIFORM] >= mean[UNTOLD]).sum()} seeds")
    for rule in ways[3:]:
        kept = (worst[rule] >= worst[UNIFORM]).sum()
        print(
            f"{rule}: worst task not below uniform in {kept} seeds, mean lower by {(mean[UNIFORM] - mean[rule]).mean():+.3f}"
        )
    print("\ncompositions that have not come before (roll, permute, plain with another rule each), after six others")
    rules = ("digit", "loops", "parity")
    for name, parts_of in found["ahead"].items():
        rows = {part: np.array(own) for part, own in parts_of.items()}  # [seeds, tasks]
        gain = rows["unseen"] - rows["untrained"]
        guess = rows["unseen"] - np.array([GUESS[rule] for rule in rules])
        for place, rule in enumerate(rules):
            parts = ", ".join(f"{part} {own[:, place].mean():.3f}" for part, own in rows.items())
            above = f"above untrained in {(gain[:, place] > 0).sum()}"
            print(f"{name}: {rule}: {parts}; {above}, above a guess of {GUESS[rule]} in {(guess[:, place] > 0).sum()}")
        transfer = gain.mean(axis=1)
        print(
            f"{name}: forward transfer {transfer.mean():+.3f}, by seed {', '.join(f'{one:+.3f}' for one in transfer)}"
        )
        print(
            f"{name}: less a guess {guess.mean():+.3f}, by seed {', '.join(f'{one:+.3f}' for one in guess.mean(axis=1))}"
        )


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        OUTPUT.write_text(json.dumps(measured(Path(sys.argv[2]))) + "\n")
        return
    told(json.loads(OUTPUT.read_text()))


if __name__ == "__main__":
    main()
