"""Side tasks beside a main task with few labels: related ones, one that contradicts it, and ones that need no labels.

PYTHONPATH=. python benchmarks/auxiliary.py known | tee benchmarks/output/auxiliary_known.txt
PYTHONPATH=. python benchmarks/auxiliary.py picture    # docs/transfer_side_tasks.png
PYTHONPATH=. python benchmarks/auxiliary.py free | tee benchmarks/output/auxiliary_free.txt

Needs MNIST under $CL_DATA_ROOT. ``known``: the scenario `auxiliary_mnist`, the digit from 100 labels; parity and loops, which say
something of it, have 5,000 labels; so has the digit and three modulo ten, which the main head is asked for too. ``free``: the
digit from 200 labels, a convolutional net, and side tasks that are computed from the same and 5,000 unlabelled images, random
labels among them. Weights and cosines are means over all batches and seeds. Operations and CPU seconds of learning are those of
all seeds, as multiples of the first row's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_engine.analysis.plots.side_tasks import side_weights
from cl_engine.analysis.plots.style import rendered
from cl_engine.core.files import put
from cl_engine.data.label_function import DigitRule, LabelFunction
from cl_engine.data.source import Arrays
from cl_engine.events import EpochEnded
from cl_engine.experiment import Experiment
from cl_engine.modules.weighing import AuxiliaryWeighed, LookedAhead
from cl_engine.results.run import open_run
from cl_engine.sources.mnist import Mnist
from cl_engine.testing.walking import answers, walk

SHIFTED, RANDOM = "benchmarks.auxiliary:Shifted", "benchmarks.auxiliary:RandomLabels"
CONTRADICTED: dict[str, Any] = {
    "stream.views": ["parity", "loops", SHIFTED, "digit"],
    "stream.labelled": [5000, 5000, 5000, 100],
    "menu": ["parity", "loops", SHIFTED],
    "main_head": [SHIFTED],
}
KNOWN: dict[str, dict[str, Any]] = {
    "main alone": {"menu": [], "rule": "none"},
    "main alone, 4 x the epochs": {**CONTRADICTED, "rule": "none"},
    "related, fixed": {"rule": "fixed"},
    "contradictory by a head of its own": {**CONTRADICTED, "rule": "fixed", "menu": [SHIFTED], "main_head": []},
    "+ contradictory, fixed": {**CONTRADICTED, "rule": "fixed"},
    "… gate of the batch": {**CONTRADICTED, "rule": "gate", "smooth": 0.0},
    "… max(0, cos) of the batch": {**CONTRADICTED, "rule": "cosine", "smooth": 0.0},
    "… max(0, cos), smoothed": {**CONTRADICTED, "rule": "cosine"},
    "… gate, smoothed": {**CONTRADICTED, "rule": "gate"},
    "… UPGrad": {**CONTRADICTED, "rule": "UPGrad"},
    "… PCGrad": {**CONTRADICTED, "rule": "PCGrad"},
    "… MGDA": {**CONTRADICTED, "rule": "MGDA"},
}
FREE_OF: dict[str, Any] = {
    "stream.source": "benchmarks.auxiliary:Halved",
    "stream.views": ["classes", "digit"],
    "stream.labelled": [5000, 200],
    "stream.unlabelled": [0],
    "net.name": "small_cnn",
    "net.width": 16,
    "net.layers": 2,
    "net.norm": "none",
    "train.epochs": 125,
    "train.lr": 1e-3,
}
SEVERAL = ["rotation", "denoise", RANDOM]
FREE: dict[str, dict[str, Any]] = {
    "main alone": {"menu": [], "rule": "none", "stream.unlabelled": []},
    "main alone, 4 x the epochs": {"menu": SEVERAL, "rule": "none"},
    "rotation + denoise, fixed": {"menu": ["rotation", "denoise"], "rule": "fixed"},
    "random labels, fixed": {"menu": [RANDOM], "rule": "fixed"},
    "all three, fixed": {"menu": SEVERAL, "rule": "fixed"},
    "all three, gate of the batch": {"menu": SEVERAL, "rule": "gate", "smooth": 0.0},
    "all three, gate, smoothed": {"menu": SEVERAL, "rule": "gate"},
}


class Shifted(DigitRule):
    """The digit and three, modulo ten."""

    answers = tuple((digit + 3) % 10 for digit in range(10))


class RandomLabels(LabelFunction):
    """One of ten classes, drawn for each image."""

    def prepare(self, arrays: Arrays) -> tuple[str, dict[str, Any]]:
        return "classes", {"classes": 10}

    def ask(self, x: Tensor, y: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        return x, torch.from_numpy(draw.integers(0, 10, len(x))).to(x.device)


class Halved(Mnist):
    """MNIST at 14 × 14 pixels, each the mean of four."""

    def half(self, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray]:
        x, y = super().half(root, train)
        return x.reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5)).astype(np.uint8), y


def short(name: str) -> str:
    return name.rpartition(":")[2]


def learned(seeds: tuple[int, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return accuracy on test rows by seed, mean weights, cosines and gains by side task, operations and CPU seconds."""
    experiment = Experiment.of("auxiliary_mnist", "auxiliary", seeds, **{"agenda.evaluate_every": 0, **options})
    stream, strategy, events = walk(experiment)
    weights: dict[str, list[float]] = {}
    cosines: dict[str, list[float]] = {}
    gains: dict[str, list[float]] = {}
    flops, began = 0.0, time.process_time()
    for event in events:
        if isinstance(event, EpochEnded):
            flops += event.flops
        elif isinstance(event, AuxiliaryWeighed):
            weights.setdefault(short(event.part), []).append(np.mean(event.weight))
            cosines.setdefault(short(event.part), []).append(np.mean(event.cosine))
        elif isinstance(event, LookedAhead):
            gains.setdefault(event.part, []).append(np.mean(event.gain))
    seconds, last = time.process_time() - began, stream.n_tasks - 1
    test = stream.test(last)
    right = (answers(stream, strategy, last).argmax(dim=-1) == test.y).double().mean(dim=1)
    means = [{name: float(np.mean(own)) for name, own in found.items()} for found in (weights, cosines, gains)]
    return {
        "accuracy": right.numpy(),
        "weights": means[0],
        "cosines": means[1],
        "gains": means[2],
        "cost": (flops, seconds),
    }


def table(seeds: tuple[int, ...], common: dict[str, Any], rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    print(f"torch {torch.__version__}, seeds {seeds}, one thread")
    print(f"{'':<36}{'accuracy':<16}{'gradients':>9}{'operations':>11}{'seconds':>9}  weight (cosine) of side tasks")
    found: dict[str, dict[str, Any]] = {}
    for name, options in rows.items():
        one = found[name] = learned(seeds, {**common, **options})
        right, first = one["accuracy"], next(iter(found.values()))["cost"]
        rule, sides = options["rule"], len(one["weights"])
        count = 1 + sides if rule in ("none", "fixed") else 2 * (1 + sides)
        cost = [own / before for own, before in zip(one["cost"], first, strict=True)]
        told = ", ".join(f"{side} {w:.3f} ({one['cosines'][side]:.3f})" for side, w in one["weights"].items())
        print(
            f"{name:<36}{f'{right.mean():.3f} ± {right.std(ddof=1):.3f}':<16}{count:>9}{cost[0]:>11.1f}{cost[1]:>9.1f}  {told}",
            flush=True,
        )
    return found


def known() -> None:
    found = table((0, 1, 2, 3, 4), {}, KNOWN)
    mean = {name: float(one["accuracy"].mean()) for name, one in found.items()}
    alone, weights = mean["main alone"], found["… gate, smoothed"]["weights"]
    print(f"\nrelated, fixed − main alone: {mean['related, fixed'] - alone:+.3f} (more than .04 wanted)")
    print(f"+ contradictory, fixed − main alone: {mean['+ contradictory, fixed'] - alone:+.3f} (less than −.3 wanted)")
    print(f"… gate, smoothed − main alone: {mean['… gate, smoothed'] - alone:+.3f} (more than .03 wanted)")
    print(f"weights by the smoothed gate, contradictory < .05 < .7 < related: {weights}")
    print("look-ahead, share of the loss after > that a step for the task before it takes away, by the smoothed gate:")
    gains = learned((0, 1, 2, 3, 4), {**KNOWN["… gate, smoothed"], "tag_every": 10})["gains"]
    print(", ".join(f"{'>'.join(map(short, name.split('>')))} {gain:+.4f}" for name, gain in gains.items()))


def picture() -> None:
    experiment = Experiment.of("auxiliary_mnist", "auxiliary", (0, 1, 2), **KNOWN["… gate, smoothed"])
    with tempfile.TemporaryDirectory() as folder:
        figure = side_weights(open_run(experiment.run(folder, device="cpu")))
    assert figure is not None
    put(Path("docs/transfer_side_tasks.png"), rendered(figure, "png"))


def free() -> None:
    table((0, 1, 2), FREE_OF, FREE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"known": known, "picture": picture, "free": free}[sys.argv[1]]()
