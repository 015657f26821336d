"""Bytes a task against accuracy lost, of codes of what tasks add to one pre-trained net, beside codes of whole nets.

    PYTHONPATH=. nice python benchmarks/skill_recall_adapters.py FOLDER | tee benchmarks/output/skill_recall_adapters.txt

A LeNet learns half of CIFAR-10 (classes 0 to 4); tasks are pairs of classes, in one drawn order: the ten pairs of the other half,
and forty-five each of MNIST and Fashion-MNIST, 200 images a class. What each task learns is learned once, kept in FOLDER, and
every codec is given the same; rows and rates are the scenario's, none was chosen by the outcome. One seed, buffer 5. Bytes of one
seed: `as learned` in float32, head included; `a further task` is what the last twenty cost each, `in all` what all codes and
decoders take, by task. The frozen net, counted once for all, is said above.
"""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.skill_recall_frontier import ONE, measure
from cl_engine.core.state import bytes_by_part
from cl_engine.engine.agenda import Learn
from cl_engine.engine.loop import simulate
from cl_engine.experiment import Experiment
from cl_engine.strategies.skill_recall import SkillRecall

WHAT: dict[str, dict[str, Any]] = {
    "whole nets": {},
    "low-rank, rank 4": {"what": "lora", "adapter_lr": 3e-3},
    "low-rank, rank 1": {"what": "lora", "lora_rank": 1, "adapter_lr": 3e-3},
    "scale and shift": {"what": "patch", "adapter_lr": 3e-3},
    "biases": {"what": "patch", "patch_kind": "bias", "adapter_lr": 3e-3},
    "masks": {"what": "mask"},
}
CODECS: dict[str, dict[str, Any]] = {
    "default: blocks of 20, 8 bits": {},
    "one autoencoder of 40, 8 bits": ONE | {"latent": 40, "latent_bits": 8},
    "one autoencoder of 20, 8 bits": ONE | {"latent": 20, "latent_bits": 8},
    "one autoencoder of 10, 8 bits": ONE | {"latent": 10, "latent_bits": 8},
    "basis, residual .9, 5 bits": {"codec": "basis", "threshold": 0.9, "decoder_bits": 5},
    "quantised, 5 bits": {"codec": "quantised"},
    "quantised, 3 bits": {"codec": "quantised", "bits": 3},
    "quantised, 2 bits": {"codec": "quantised", "bits": 2},
    "mean": {"codec": "mean"},
}


def tasks() -> list[dict[str, Any]]:
    """Return all pairs of classes, in a drawn order."""
    ten = range(10)
    pairs = [("cifar10", pair) for pair in itertools.combinations(range(5, 10), 2)]
    pairs += [(source, pair) for source in ("mnist", "fashion_mnist") for pair in itertools.combinations(ten, 2)]
    random.Random(0).shuffle(pairs)
    return [{"source": source, "classes": list(pair), "name": f"{source} {pair}"} for source, pair in pairs]


class Learned:
    """What all tasks have learned, as vectors ``[1, n, P]``, what they start from, and what tests them."""

    def __init__(self, name: str, folder: Path) -> None:
        changes = {"stream.sources": tasks(), "stream.samples_per_class": 200, "stream.shape": [3, 32, 32]}
        options = {"train.epochs": 20, "codec": "mean", **changes, **WHAT[name]}
        experiment = Experiment.of("masks_few_cifar10", "skill_recall", (0,), **options)
        self.stream = experiment.stream()
        learner = experiment.build_strategy(self.stream)
        assert isinstance(learner, SkillRecall)
        learner.state = learner.start()
        self.learner, self.manifest, self.centre = learner, learner.manifest, learner._centre()
        file = folder / f"{name.replace(',', '').replace(' ', '_')}.safetensors"
        if not file.exists():
            save_file({"skills": self._learn()}, file)
        self.vectors = load_file(file)["skills"]
        self.tests = [self.stream.test(task) for task in range(self.vectors.shape[1])]
        self.start_bytes = 0  # the frozen net is told apart
        self.frozen = bytes_by_part(learner.state).get("backbone", 0)

    def _learn(self) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        wait = self.learner._wait
        self.learner._wait = lambda task, vector: (kept.append(vector.clone()), wait(task, vector))[1]  # type: ignore[method-assign]
        for event in simulate(self.stream, self.learner, map(Learn, range(int(self.stream.n_steps or 0)))):
            del event
        return torch.stack(kept, dim=1)

    def accuracy(self, task: int, vector: torch.Tensor) -> float:
        test = self.tests[task]
        skill = self.manifest.params(vector, self.manifest.rest(self.learner.skills.first(self.learner.state)))
        return float((self.learner._answers([0], skill, test.x).argmax(-1) == test.y).float().mean())


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{len(tasks())} tasks of two classes over a LeNet that learned half of CIFAR-10; one seed, buffer 5, one thread"
    )
    print(f"{'':<32}  accuracy    loss  worst loss   a further task     in all")
    for name in WHAT:
        learned = Learned(name, folder)
        count = learned.vectors.shape[1]
        original = np.array([learned.accuracy(task, learned.vectors[:, task]) for task in range(count)])
        whole = 4 * learned.manifest.size
        beside = f"; frozen net {learned.frozen:,} bytes" if learned.frozen else ""
        print(
            f"{name}{beside}\n{'  as learned':<32}  {original.mean():8.4f} {'':>19} {whole:>16,} {whole:>10,}",
            flush=True,
        )
        for codec, options in CODECS.items():
            got = measure(learned, options)
            accuracy, sizes = np.array(got["accuracy"]), np.array(got["sizes"])
            loss = original[: len(accuracy)] - accuracy
            further = (sizes[-1] - sizes[-5]) / 20
            print(
                f"  {codec:<30}  {accuracy.mean():8.4f} {loss.mean():+7.4f}     {loss.max():+7.4f} {further:>16,.0f} "
                f"{got['in_all'] / len(accuracy):>10,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
