"""What is done on a GPU is done as on the CPU: run by `tests/test_gpu.py` in a process with a pretend GPU, and on a real one.

Each case is the smallest that takes a path of its own; strategies are held to the rest by their contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cl_engine.core import gpu
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.testing import small
from cl_engine.testing.devices import SHORT, moved, whole
from tests.conftest import TINY

PICTURES = {"net.name": f"{small.__name__}:with_batchnorm", "net.hidden": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "products in bfloat16": ("finetune", {"train.precision": "bfloat16"}),
    "images moved and mirrored": ("finetune", {"train.crop": 1, "train.flip": 0.5}),
    "rehearsed images moved and mirrored": ("replay", {"train.crop": 1}),
    "convolutions with statistics": ("finetune", PICTURES),
    "a net that draws": ("finetune", {"net.name": f"{small.__name__}:with_dropout", "net.hidden": 8}),
    "momentum, and rates that change": (
        "finetune",
        {"train.optimizer": "sgd", "train.momentum": 0.9, "train.schedule": "cosine", "train.milestones": [1]},
    ),
    "an optimiser that is not fused": ("finetune", {"train.optimizer": "rmsprop"}),
    "an optimiser that goes on": ("finetune", {"train.keep_optimizer": True}),
    "validation rows": ("independent", {"stream.validation": 0.25}),
    "seeds with tasks of their own": ("finetune", {"stream.per_seed": True}),
    "online scores": ("finetune", {"agenda.online": True}),
    "batches that are merged": ("finetune", {"train.batch": 7, "train.leftover": "merge"}),
}


def test_on_a_gpu_every_upkeep_does_what_it_does_on_the_cpu(tmp_path: Path):
    for name in plugins.names("upkeep"):
        assert_same("finetune", {"train.upkeep": name}, tmp_path / name)


@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_the_options_of_a_scenario_do_what_they_do_on_the_cpu(case: str, tmp_path: Path):
    assert_same(*CASES[case], tmp_path)


def assert_same(strategy: str, options: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    experiment = Experiment.of(TINY, strategy, (0, 1, 2), **{**SHORT, **options})
    for there, here in zip(moved(experiment, gpu.KIND, folder), whole(experiment), strict=True):
        torch.testing.assert_close(there, here, rtol=2e-2, atol=2e-2)
