"""The baselines on the real MNIST: the levels and orders that any such engine must show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cl_engine.experiment import Experiment
from cl_engine.results.run import Run, open_run

pytestmark = pytest.mark.slow
FEW = {"stream.samples_per_class": 2000}  # of some 6,000: as telling, in a third of the time


def run(folder: Path, data_root: Path, scenario: str, strategy: str, **overrides: object) -> Run:
    experiment = Experiment.of(scenario, strategy, (0,), **overrides)
    return open_run(experiment.run(folder / strategy, data_root=data_root))


def final(opened: Run, score: str) -> float:
    assert opened.final is not None
    return float(opened.final[score].mean())


def test_on_split_mnist_joint_reaches_independent_and_finetuning_forgets(data_root: Path, tmp_path: Path):
    names = ("joint", "independent", "finetune", "replay")
    runs = {name: run(tmp_path, data_root, "split_mnist", name, **FEW) for name in names}
    acc = {name: final(opened, "acc") for name, opened in runs.items()}
    assert acc["joint"] >= 0.99
    assert acc["joint"] >= acc["independent"] - 0.005
    assert acc["finetune"] < acc["replay"] < acc["joint"] + 0.005
    assert final(runs["finetune"], "forgetting") > 0.02
    assert final(runs["independent"], "forgetting") == 0


def test_in_the_class_setting_finetuning_keeps_the_last_task_only_and_replay_much_more(data_root: Path, tmp_path: Path):
    names = ("finetune", "replay")
    finetune, replay = (run(tmp_path, data_root, "split_mnist_class", name, **FEW) for name in names)
    assert final(finetune, "acc") < 0.25
    assert final(replay, "acc") > final(finetune, "acc") + 0.4


def test_on_permuted_mnist_masks_do_not_forget_at_all(data_root: Path, tmp_path: Path):
    few = {"stream.n": 3, "stream.samples_per_class": 500, "train.epochs": 4}
    piggyback = run(tmp_path, data_root, "permuted_mnist", "piggyback", **few)
    assert final(piggyback, "forgetting") == 0
    assert final(piggyback, "bwt") == 0
    assert final(piggyback, "acc") > 0.8
    matrix = piggyback.results["accuracy"].values
    for task in range(3):
        assert np.unique(matrix[task + 1 :, task]).size == 1


def test_colour_images_and_batchnorm_learn(data_root: Path, tmp_path: Path):
    few = {"stream.n": 2, "stream.samples_per_class": 200, "stream.test_samples_per_class": 100, "net.width": 8}
    found = run(tmp_path, data_root, "split_cifar10", "independent", **few, **{"train.epochs": 4})
    assert final(found, "acc") > 0.3  # of five classes: chance is 0.2
