"""What optimisers remember goes on from one experience to the next, where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cl_engine.checkpoints import file as checkpoint
from cl_engine.core import rng
from cl_engine.experiment import Experiment
from cl_engine.results import open_run
from cl_engine.testing.small import scenario
from cl_engine.training.optimizer_memory import OptimizerMemory
from cl_engine.training.optimizers import Train
from cl_engine.training.weight_memory import fingerprints
from tests.test_fit import job_of, net_of, run

OPTIMIZERS = [
    {"optimizer": "adam", "lr": 0.01},
    {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
    {"optimizer": "rmsprop", "lr": 0.01},
    {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("options", OPTIMIZERS, ids=lambda options: str(options["optimizer"]))
def test_two_fits_with_a_memory_are_one_loop_with_one_optimiser(options: dict[str, Any], together: bool):
    train, memory, net = Train(epochs=2, batch=16, **options), OptimizerMemory(), net_of()
    first = job_of(net, train=train, memory=memory, side_by_side=together, index=0)
    between, _ = run(first)
    found, _ = run(job_of(net, train=train, memory=memory, side_by_side=together, index=1, params=between))
    params = {name: tensor[1].clone().requires_grad_() for name, tensor in first.params.items()}
    kind = {
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
        "adamw": torch.optim.AdamW,
    }
    optimizer = kind[train.optimizer](params.values(), **{k: v for k, v in options.items() if k != "optimizer"})
    for index in (0, 1):
        for epoch in range(2):
            for rows in torch.randperm(50, generator=rng.tensors(1, "order", 0, index, epoch)).split(16):
                optimizer.zero_grad()
                F.cross_entropy(net.one(params, first.rows[0][rows]), first.rows[1][rows]).backward()
                optimizer.step()
    for name, weight in params.items():
        torch.testing.assert_close(found[name][1], weight.detach(), rtol=1e-4, atol=1e-6)


def test_a_weight_that_was_changed_in_between_begins_with_nothing():
    memory, net, train = OptimizerMemory(), net_of(), Train(batch=16, optimizer="adam")
    params, _ = run(job_of(net, train=train, memory=memory))
    kept = memory.of_weights(params, [torch.optim.Adam([torch.zeros(1)])])
    params["head.weight"][0, 0, 0] += 1e-3
    again = memory.of_weights(params, [torch.optim.Adam([torch.zeros(1)])])
    assert kept.keys() - again.keys() == {("head.weight",)}


def test_an_optimiser_of_another_kind_begins_with_nothing():
    memory, net = OptimizerMemory(), net_of()
    params, _ = run(job_of(net, train=Train(batch=16, optimizer="adam"), memory=memory))
    run(job_of(net, params=params, train=Train(batch=16, momentum=0.9), memory=memory))
    assert "momentum_buffer" in memory.state["of"]["head.weight"]


@given(st.integers(0, 2**31 - 1), st.integers(0, 29), st.integers(0, 30))
def test_a_fingerprint_is_another_one_if_a_single_bit_is(number: int, place: int, bit: int):
    weight = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(number))
    changed = weight.clone()
    changed.view(torch.int32).view(-1)[place] ^= 1 << bit
    same = fingerprints(weight) == fingerprints(changed)
    assert same.tolist() == [place >= 15, place < 15]


@pytest.mark.parametrize("setting", ["task", "domain"])
def test_the_memory_is_a_part_of_the_state_and_counts(setting: str, tmp_path: Path):
    asked = {"train.keep_optimizer": True, "stream.setting": setting}
    folder = Experiment.of(scenario(), "finetune", (0, 1), **asked).run(tmp_path / "run", device="cpu")
    results = open_run(folder).results
    memory = results["memory"].sel(part="optimizer").values
    assert (memory > 2 * results["memory"].sel(part="net").values).all()  # two moments of each weight
    state = checkpoint.load(folder / "checkpoint.safetensors")["strategy"]["optimizer"]["of"]
    assert np.unique(state["0.weight" if "0.weight" in state else next(iter(state))]["step"]).size == 1


def test_a_new_head_begins_with_nothing_and_the_body_goes_on(tmp_path: Path):
    folder = Experiment.of(scenario(), "finetune", **{"train.keep_optimizer": True}).run(tmp_path / "run", device="cpu")
    of = checkpoint.load(folder / "checkpoint.safetensors")["strategy"]["optimizer"]["of"]
    steps = {name: float(own["step"][0]) for name, own in of.items()}
    assert {3 * steps["head.weight"]} == {count for name, count in steps.items() if not name.startswith("head")}


def test_a_run_whose_optimiser_goes_on_learns_something_else_than_one_that_begins_anew(tmp_path: Path):
    def acc(keep: bool) -> np.ndarray:
        asked = {"train.keep_optimizer": keep, "stream.setting": "domain"}
        folder = Experiment.of(scenario(), "finetune", **asked).run(tmp_path / str(keep), device="cpu")
        return np.asarray(open_run(folder).table("epochs")["loss"])

    assert acc(True)[:2] == pytest.approx(acc(False)[:2])
    assert not np.allclose(acc(True)[2:], acc(False)[2:])
