"""Which task to practise: six compositions of two inputs and three rules; and compositions that have not come before.

PYTHONPATH=. python benchmarks/sampling.py measure FOLDER    # runs five seeds side by side: output/sampling.json
PYTHONPATH=. python benchmarks/sampling.py | tee benchmarks/output/sampling.txt    # tables from that file, and the orders held
"""

from __future__ import annotations

import json
import sys
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
WIDTHS = (48, 16)
GUESS = {
    "digit": 0.1,
    "loops": 0.6,
    "parity": 0.5,
}  # what the most frequent answer comes to on the unseen, in their order


def scores(scenario: str, strategy: str, out: Path, **changes: Any) -> np.ndarray:
    """Return R ``[evaluations, tasks, seeds]``; the run stays in ``out``, and one that is there is not done again."""
    experiment = Experiment.of(scenario, strategy, SEEDS, **changes)
    found: np.ndarray = open_run(experiment.run(out, device="cpu")).results["score"].values
    return found


def measured(folder: Path) -> dict[str, Any]:
    """Return accuracies by task and seed: at the end of each way to learn six tasks, and on what has not come before."""
    last: dict[str, dict[str, Any]] = {}
    for width in WIDTHS:
        sampled = {rule: {"sampling": rule, "losses_from": str(folder / f"own {width}")} for rule in RULES}
        ways = {ALONE: None, UNTOLD: {"conditioning": False}, UNIFORM: {}}
        ways |= {**sampled, "loss, by the first epoch": {"sampling": "loss"}} if width == WIDTHS[0] else {}
        last[str(width)] = {}
        for way, options in ways.items():
            out = folder / f"{'own' if way == ALONE else way} {width}"
            strategy = "independent" if options is None else "conditioned"
            R = scores("sampling_mnist", strategy, out, **{"net.hidden": [width, width]}, **(options or {}))
            last[str(width)][way] = R[-1].tolist()
            print(width, way, R[-1].mean(axis=1).round(3), flush=True)
    ahead = {}
    for name, conditioning in (("conditioned", True), ("head alone", False)):
        R = scores("compositions_mnist", "conditioned", folder / name, conditioning=conditioning)[:, UNSEEN]
        six = len(R) - len(UNSEEN) - 1  # the row of R after six experiences; the first is that of the untrained net
        ahead[name] = {part: R[row].T.tolist() for part, row in (("untrained", 0), ("unseen", six), ("learned", -1))}
        print(name, {part: np.mean(own, axis=0).round(3) for part, own in ahead[name].items()}, flush=True)
    return {"last": last, "ahead": ahead}


def told(found: dict[str, Any]) -> None:
    """Print the tables, and in how many seeds each order holds."""
    print(f"seeds {list(SEEDS)}, mean and sample deviation of accuracy on test rows; in brackets the difference to")
    print(f"'{UNIFORM}', and in how many seeds it is above")
    for width, last in found["last"].items():
        compared(width, {way: np.array(own) for way, own in last.items()})
    print("\ncompositions that have not come before, after six others: plain + digit, permute + loops, roll + parity")
    for name, parts_of in found["ahead"].items():
        rows = {part: np.array(own) for part, own in parts_of.items()}  # [seeds, tasks]
        gain, guess = rows["unseen"] - rows["untrained"], rows["unseen"] - np.array(list(GUESS.values()))
        for place, rule in enumerate(GUESS):
            parts = ", ".join(f"{part} {own[:, place].mean():.3f}" for part, own in rows.items())
            above = (gain[:, place] > 0).sum(), (guess[:, place] > 0).sum()
            print(
                f"{name}: {rule}: {parts}; above untrained in {above[0]}, above a guess of {GUESS[rule]} in {above[1]}"
            )
        for what, of_seed in (("forward transfer", gain.mean(axis=1)), ("above a guess by", guess.mean(axis=1))):
            each = ", ".join(f"{one:+.3f}" for one in of_seed)
            print(f"{name}: {what} {of_seed.mean():+.3f}, by seed {each}; above zero in {(of_seed > 0).sum()}")


def compared(width: str, each: dict[str, np.ndarray]) -> None:
    """Print the table of one width, of accuracies ``[tasks, seeds]``."""
    mean, worst = (
        {way: own.mean(axis=0) for way, own in each.items()},
        {way: own.min(axis=0) for way, own in each.items()},
    )
    print(f"\n{f'two layers of {width}':<36}{'mean of tasks':>32}{'worst task':>32}")
    for way in each:
        cells = ""
        for of in (mean, worst):
            gap = of[way] - of[UNIFORM]
            beside = "" if way == UNIFORM else f" ({gap.mean():+.3f}, {(gap > 0).sum()})"
            cells += f"{f'{of[way].mean():.3f} ± {of[way].std(ddof=1):.3f}{beside}':>32}"
        print(f"{way:<36}{cells}")
    lead, low = mean[UNIFORM] - mean[ALONE], worst[UNIFORM] - worst[ALONE]
    print(
        f"conditioned − six nets: {lead.mean():+.3f}, mean above in {(lead > 0).sum()}, worst above in {(low > 0).sum()}"
    )
    print(f"conditioned ≥ not told, mean of tasks: in {(mean[UNIFORM] >= mean[UNTOLD]).sum()} seeds")
    for rule in list(each)[3:]:
        kept, lower = (worst[rule] >= worst[UNIFORM]).sum(), (mean[UNIFORM] - mean[rule]).mean()
        print(f"{rule}: worst task not below uniform in {kept} seeds, mean lower by {lower:+.3f}")


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["measure"]:
        OUTPUT.write_text(json.dumps(measured(Path(sys.argv[2]))) + "\n")
        return
    told(json.loads(OUTPUT.read_text()))


if __name__ == "__main__":
    main()
