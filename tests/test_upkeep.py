"""Upkeep: what keeps a net able to learn, worn by any strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cl_engine.checkpoints import file as checkpoint
from cl_engine.core.bank import Bank
from cl_engine.core.tree import leaves_with_path
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import Event, Saved, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.nn.net import Net
from cl_engine.nn.units import hidden_units
from cl_engine.results import open_run
from cl_engine.runs import plugins
from cl_engine.runs.upkeep import upkeep_of
from cl_engine.testing import UpkeepContract
from cl_engine.testing.small import scenario
from cl_engine.training.optimizers import Train
from cl_engine.training.upkeep import Draws
from cl_engine.training.weight_memory import WeightMemory, by_weight
from cl_engine.upkeep.l2_init import L2Init
from cl_engine.upkeep.shrink_perturb import ShrinkPerturb, drawn_from
from tests.conftest import TINY
from tests.test_fit import job_of, net_of, run

NOTHING = {
    "continual_backprop": {"rate": 0.0},
    "cpr": {"rate": 0.0},
    "l2_init": {"strength": 0.0},
    "redo": {"period": 0},
    "regrama": {"period": 0},
    "shrink_perturb": {"shrink": 0.0, "noise_scale": 0.0},
    "upgd": {"sigma": 0.0, "factor": 1.0, "protecting": False},
}
ASKED = {  # in the few steps of a test, they do something
    "continual_backprop": {"rate": 0.05, "maturity": 5},
    "cpr": {"rate": 0.5, "period": 5},
    "redo": {"threshold": 0.5, "period": 5},
    "regrama": {"threshold": 0.7, "period": 5},
}

for kind in plugins.names("upkeep"):
    asked = {"upkeep": kind, "nothing": NOTHING[kind], "options": ASKED.get(kind, {})}
    globals()[f"Test_{kind}"] = type(f"Test_{kind}", (UpkeepContract,), asked)


def test_l2_init_is_the_gradient_of_the_squared_distance_to_the_start():
    train = Train(epochs=1, batch=50, lr=0.1)
    net = net_of()
    begun = {name: tensor + 0.5 for name, tensor in net.init([0]).items()}
    plain, kept = (
        run(job_of(net, [0], params=begun, train=train, upkeep=worn))[0] for worn in (None, L2Init.of(strength=0.2))
    )
    for name in plain:
        torch.testing.assert_close(kept[name], plain[name] - 0.1 * 0.2 * 2 * 0.5, rtol=1e-5, atol=1e-6)


def test_noise_is_drawn_as_the_weights_of_each_layer_were():
    net = net_of()
    start = {(name,): weight for name, weight in net.init([0, 1]).items()}
    for (name,), drawn in drawn_from(start).items():
        like = torch.zeros(2, *[1] * (start[name,].ndim - 2), 4000)
        numbers = drawn.numbers(like, Draws([torch.Generator().manual_seed(k) for k in (0, 1)]))
        assert drawn.uniform
        if name.endswith("weight"):
            bound = net.shapes[name][1] ** -0.5
            assert stats.kstest(numbers[0].flatten(), stats.uniform(-bound, 2 * bound).cdf).statistic < 0.05


def test_normal_weights_are_told_from_uniform_ones_and_what_began_as_one_value_gets_no_noise():
    start = {("w",): torch.randn(2, 500, generator=torch.Generator().manual_seed(0)), ("b",): torch.zeros(2, 5)}
    found = drawn_from(start)
    assert not found["w",].uniform
    assert not found["b",].numbers(start["b",], Draws([torch.Generator(), torch.Generator()])).any()
    scale = {("scale",): torch.ones(2, 5)}  # of a normalisation
    assert not drawn_from(scale)["scale",].numbers(scale["scale",], Draws([torch.Generator(), torch.Generator()])).any()


@pytest.mark.parametrize("kind", plugins.names("upkeep"))
def test_a_head_that_begins_with_zeros_keeps_no_upkeep_from_learning(kind: str, tmp_path: Path):
    changes = {"stream.setting": "domain", "train.reset_head": "zero", "train.upkeep": kind}
    run = open_run(Experiment.of(TINY, "finetune", (0,), **changes).run(tmp_path / "run", device="cpu"))
    assert run.status == "finished" and np.isfinite(run.table("epochs")["loss"]).all()


def test_weights_shrink_by_their_share_at_every_step():
    upkeep, net = ShrinkPerturb.of(shrink=0.5, noise_scale=0.0), net_of()
    still = Train(epochs=2, batch=25, lr=1e-12)
    kept, _ = run(job_of(net, [0], train=still, upkeep=upkeep))
    for name, weight in net.init([0]).items():
        torch.testing.assert_close(kept[name], weight / 2**4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("l2_inti", "no upkeep named 'l2_inti' (did you mean 'l2_init'?)"),
        ("l2_init?strength=-1", "train.upkeep.strength"),
        ("l2_init?power=1", "train.upkeep.power"),
        ("l2_init?strength", "'strength' is no option"),
    ],
)
def test_what_is_no_upkeep_is_refused_in_a_sentence(text: str, said: str):
    with pytest.raises(UsageError) as caught:
        Experiment.of(scenario(), "finetune", **{"train.upkeep": text})
    assert said in str(caught.value)


def test_a_scenario_without_upkeep_has_none():
    assert upkeep_of("") is None


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("continual_backprop", {"rate": 0.5, "maturity": 10_000}),
        ("continual_backprop", {"rate": 1e-6, "maturity": 1, "accumulate": False}),
        ("redo", {"threshold": 0.0, "period": 1}),
        ("regrama", {"threshold": 0.5, "period": 10_000}),
        ("cpr", {"period": 10_000}),
    ],
)
def test_looking_at_units_changes_nothing_bit_for_bit(kind: str, options: dict[str, Any], together: bool):
    net = net_of("mlp", hidden=[16, 12], activation="tanh")  # none of whose units is ever silent
    worn = plugins.load("upkeep", kind).of(**options)
    plain, kept = (run(job_of(net, upkeep=upkeep, side_by_side=together))[0] for upkeep in (None, worn))
    assert all(torch.equal(plain[name], kept[name]) for name in plain)


@pytest.mark.parametrize("kind", ["continual_backprop", "redo", "upgd"])
@pytest.mark.parametrize("together", [True, False])
def test_two_fits_are_one_of_as_many_steps_as_far_as_upkeep_remembers(kind: str, together: bool):
    options = ASKED.get(kind, {"sigma": 0.0})
    worn, net = plugins.load("upkeep", kind).of(**options), net_of("mlp", hidden=[16, 12])
    still = Train(epochs=4, batch=25, lr=1e-12)
    memory, whole = WeightMemory(), WeightMemory()
    params = net.init([0, 1, 2])
    for _ in range(2):
        short = Train(epochs=2, batch=25, lr=1e-12)
        job = job_of(net, params=params, train=short, upkeep=worn, upkeep_memory=memory, side_by_side=together)
        params, _ = run(job)
    run(job_of(net, train=still, upkeep=worn, upkeep_memory=whole, side_by_side=together))
    for (path, found), (_, wanted) in zip(*(leaves_with_path(m.state["of"]) for m in (memory, whole)), strict=True):
        if path[-1] in ("age", "owed", "steps"):
            assert torch.equal(found.sum(dim=-1), wanted.sum(dim=-1)), path
    assert memory.state["of"]["1.weight"].keys() == whole.state["of"]["1.weight"].keys()


def test_what_upkeep_remembers_is_a_part_of_the_state_and_of_constant_size(tmp_path: Path):
    asked = {"train.upkeep": "continual_backprop?rate=0.05&maturity=3", "stream.setting": "domain", "stream.n": 4}
    folder = Experiment.of(scenario(), "finetune", (0, 1), **asked).run(tmp_path / "run", device="cpu")
    memory = open_run(folder).results["memory"].sel(part="upkeep").values
    assert len(set(memory.tolist())) == 1
    assert memory[0] == 3 * (3 * 12 * 4 + 8 + 8) + 8  # age, utility, mean; what is owed; what was left; the kind
    state = checkpoint.load(folder / "checkpoint.safetensors")["strategy"]["upkeep"]["of"]
    assert len(state) == 3
    assert all(0 < own["age"].max() <= 4 * 2 * 3 for own in state.values())


@pytest.mark.parametrize("setting", ["task", "domain"])
def test_rehearsal_with_a_head_a_task_has_its_last_hidden_units_replaced_too(setting: str):
    asked = {"train.upkeep": "continual_backprop?rate=0.2&maturity=1", "stream.setting": setting}
    experiment = Experiment.of(scenario(), "replay", (0, 1), **asked)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    for _ in simulate(stream, strategy, plan(stream, experiment.agenda)):
        pass
    kept = by_weight(strategy.state["upkeep"]["of"])
    assert [path[-1] for path in kept] == ["1.weight", "3.weight", "5.weight"]
    new = [own["age"] == 0 for own in kept.values()][-1]  # replaced at the last step
    assert new.any(dim=1).all()
    heads = (
        strategy.state["heads"].rows[..., :-1] if setting == "task" else strategy.state["net"]["head.weight"][:, None]
    )
    assert heads.shape[1] == (3 if setting == "task" else 1)
    for own, chosen in zip(heads, new, strict=True):
        assert not own[..., chosen].any()
        assert own[..., ~chosen].any()


def test_a_run_killed_in_the_middle_of_an_experience_goes_on_bit_for_bit(tmp_path: Path):
    asked = {
        "train.upkeep": "continual_backprop?rate=0.05&maturity=5",
        "train.epochs": 4,
        "train.keep_optimizer": True,
        "stream.setting": "domain",
        "stream.n": 2,
        "agenda.save_every_epochs": 1,
    }
    experiment = Experiment.of(scenario(), "finetune", (0, 1), **asked)
    saved = 0

    def cutting(event: Event) -> None:
        nonlocal saved
        saved += isinstance(event, Saved) and event.midway
        if saved == 5:  # in the middle of the second experience
            raise KeyError

    whole = experiment.run(tmp_path / "whole", device="cpu")
    with pytest.raises(KeyError):
        experiment.run(tmp_path / "cut", device="cpu", listeners=lambda stream: [cutting])
    again = experiment.run(tmp_path / "cut", device="cpu")
    one, other = (checkpoint.load(folder / "checkpoint.safetensors")["strategy"] for folder in (whole, again))
    for (path, found), (_, wanted) in zip(leaves_with_path(one), leaves_with_path(other), strict=True):
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(wanted)), path


def test_layers_whose_outputs_are_added_are_left_alone():
    net = net_of("resnet18", width=4)
    found = [units.layer for units in hidden_units(net)]
    assert found
    assert all(layer.endswith("conv1") for layer in found)  # what the blocks add up is not theirs alone


@pytest.mark.parametrize("how", ["zero", "draw"])
def test_a_head_that_all_tasks_share_begins_every_experience_anew(how: str):
    asked = {"train.reset_head": how, "stream.setting": "domain", "train.lr": 1e-12, "train.optimizer": "sgd"}
    experiment = Experiment.of(scenario(), "finetune", (0, 1), **asked)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    heads = []
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        if isinstance(event, TaskLearned):
            heads.append(strategy.state["net"]["head.weight"].round(decimals=6))
            strategy.state["net"]["head.weight"].fill_(7.0)
    assert all(head.abs().max() < 1 for head in heads)
    assert torch.equal(heads[0], heads[1]) == (how == "zero")
    assert not torch.equal(heads[0][0], heads[0][1]) or how == "zero"


@pytest.mark.parametrize(
    ("strategy", "setting", "said"),
    [("packnet", "task", "no head that all tasks share"), ("finetune", "task", "each has a head of its own")],
)
def test_a_head_that_is_not_shared_cannot_be_reset(strategy: str, setting: str, said: str):
    experiment = Experiment.of(scenario(), strategy, **{"train.reset_head": "zero", "stream.setting": setting})
    with pytest.raises(UsageError, match=said):
        experiment.build_strategy(experiment.stream())


@pytest.mark.parametrize("kind", ["continual_backprop", "regrama"])
def test_scores_of_masks_are_no_units_and_stay_as_they_are(kind: str, tmp_path: Path):
    behind = "&".join(f"{name}={value}" for name, value in ASKED[kind].items())
    states = []
    for number, upkeep in enumerate(("", f"{kind}?{behind}")):
        experiment = Experiment.of(scenario(), "piggyback", (0, 1), **{"train.upkeep": upkeep, "stream.n": 2})
        folder = experiment.run(tmp_path / str(number), device="cpu")
        states.append(checkpoint.load(folder / "checkpoint.safetensors")["strategy"])
    for (path, one), (_, other) in zip(*(leaves_with_path(state) for state in states), strict=True):
        tensors = [leaf.rows if isinstance(leaf, Bank) else torch.as_tensor(leaf) for leaf in (one, other)]
        assert torch.equal(*tensors), path


def test_units_of_a_transformer_are_those_that_one_layer_alone_reads():
    shape = (12,)
    net = Net(plugins.net_builder("transformer", {"vocabulary": 20, "layers": 2}, shape, 4), shape, vocabulary=20)
    found = [units.layer for units in hidden_units(net)]
    alone = ("attention.value", "linear1")  # outputs of the others are added, multiplied or normalised first
    assert found == [f"layers.{k}.{part}" for k in (0, 1) for part in alone]


def test_a_normalisation_after_the_activation_leaves_no_unit_alone():
    net = Net(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 3)), (1, 6, 6)
    )
    assert not hidden_units(net)
