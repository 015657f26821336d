"""Fits taken up from the end of a pass: whatever the net, the optimiser and the way seeds run, as if nothing had happened."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.checkpoints import file as checkpoint
from cl_engine.checkpoints.store import MIDWAY
from cl_engine.events import Event, Saved
from cl_engine.experiment import Experiment
from cl_engine.testing.logs import assert_same_facts, facts
from cl_engine.training.early_stopping import EarlyStopping
from cl_engine.training.optimizer_memory import optimizer_state, restore_optimizer
from cl_engine.training.optimizer_steps import optimizers_for
from cl_engine.training.optimizers import Train
from tests.conftest import TINY


class Cut(BaseException):
    pass


NETS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "small_cnn": {"net.name": "small_cnn"},
    "batchnorm": {"net.name": "cl_engine.testing.small:with_batchnorm", "net.hidden": 8},
    "dropout": {"net.name": "cl_engine.testing.small:with_dropout", "net.hidden": 8},
}
HOW: list[dict[str, Any]] = [
    {"train.optimizer": "adam", "train.keep_optimizer": True},
    {"train.optimizer": "sgd", "train.momentum": 0.9, "train.milestones": [1, 2]},
    {"train.optimizer": "sgd", "train.schedule": "cosine", "train.milestones": [2]},
    {"train.optimizer": "adagrad", "train.weight_decay": 0.01},
]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    net=st.sampled_from(sorted(NETS)),
    how=st.sampled_from(HOW),
    seeds=st.sampled_from([(0,), (0, 1), (3, 1, 2)]),
    strategy=st.sampled_from(["finetune", "replay", "mntdp"]),
    moved=st.sampled_from([0, 1]),
    cut=st.integers(1, 6),
)
def test_a_fit_that_was_cut_after_any_pass_ends_as_one_that_was_not(
    net: str, how: dict[str, Any], seeds: tuple[int, ...], strategy: str, moved: int, cut: int
):
    own = {"lrs": [0.01], "weight_decays": [0.0], "patience": 1} if strategy == "mntdp" else {}
    often = {
        "agenda.online": True,
        "agenda.save_every_epochs": 1,
        "stream.n": 2,
        "train.epochs": 3,
        "agenda.curve_batches": 0,
    }
    asked = {**often, **how, **own, "train.crop": moved}
    if net != "mlp":
        asked |= NETS[net]
    experiment = Experiment.of(_without_hidden(net), strategy, seeds, **asked)
    heard = 0

    def cutting(event: Event) -> None:
        nonlocal heard
        heard += isinstance(event, Saved) and event.midway
        if heard == cut:
            heard += 1
            raise Cut

    with tempfile.TemporaryDirectory() as folder:
        whole = facts(experiment.run(Path(folder) / "whole") / "log.h5")
        try:
            experiment.run(Path(folder) / "cut", listeners=lambda stream: [cutting])
        except Cut:
            assert (Path(folder) / "cut" / MIDWAY).exists()
            experiment.run(Path(folder) / "cut")
        assert_same_facts(facts(Path(folder) / "cut" / "log.h5"), whole)
        assert not (Path(folder) / "cut" / MIDWAY).exists()


def _without_hidden(net: str) -> Any:
    from cl_engine.runs.scenario import Scenario

    scenario = Scenario.load(TINY)
    if net == "small_cnn":
        scenario.tables["net"].pop("hidden")
    return scenario


OPTIMIZERS = sorted(
    name.lower()
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lbfgs", "sparseadam", "muon")])
def test_every_optimiser_goes_on_from_what_it_remembers(name: str, tmp_path: Path):
    def made() -> tuple[dict[tuple[str, ...], torch.Tensor], Any]:
        draw = torch.Generator().manual_seed(0)
        kernels = torch.randn(4, 3, 2, 2, generator=draw).contiguous(memory_format=torch.channels_last)
        weights = {("conv",): kernels, ("deep", "head"): torch.randn(5, 4, generator=draw)}
        for weight in weights.values():
            weight.requires_grad_(True)
        return weights, optimizers_for(weights, Train(optimizer=name, lr=0.01), {})[0][0]

    def steps(weights: dict[tuple[str, ...], torch.Tensor], optimizer: Any, n: int) -> None:
        for _ in range(n):
            sum((weight - 1).pow(4).sum() for weight in weights.values()).backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, optimizer = made()
    steps(whole, optimizer, 5)
    begun, optimizer = made()
    steps(begun, optimizer, 2)
    checkpoint.save(tmp_path / "state", {"optimizer": optimizer_state(optimizer, begun)})
    later, fresh = made()
    with torch.no_grad():
        for path, weight in later.items():
            weight.copy_(begun[path])
    restore_optimizer(fresh, later, checkpoint.load(tmp_path / "state")["optimizer"])
    steps(later, fresh, 3)
    for path, weight in later.items():
        assert torch.equal(weight, whole[path])


def test_the_best_weights_and_the_patience_are_taken_up(tmp_path: Path):
    def look(best: EarlyStopping, accuracies: list[list[float]]) -> None:
        for number, accuracy in enumerate(accuracies):
            best.look(torch.tensor(accuracy), {"w": torch.full((2, 3), float(number))})

    first, then = [[0.2, 0.9], [0.5, 0.1]], [[0.4, 0.1], [0.3, 0.2]]
    whole, begun, later = EarlyStopping(2, 1), EarlyStopping(2, 1), EarlyStopping(2, 1)
    look(whole, [*first, *then])
    look(begun, first)
    checkpoint.save(tmp_path / "state", begun.state())
    later.restore(checkpoint.load(tmp_path / "state"))
    look(later, then)
    assert later.enough == whole.enough is True
    assert later.params is not None and whole.params is not None
    assert later.params["w"][:, 0].tolist() == [1.0, 0.0]
