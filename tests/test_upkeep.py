"""Upkeep: what keeps a net able to learn, worn by any strategy."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.runs.upkeep import upkeep_of
from cl_engine.testing import UpkeepContract
from cl_engine.testing.small import scenario
from cl_engine.training.optimizers import Train
from cl_engine.training.upkeep import Draws
from cl_engine.upkeep.l2_init import L2Init
from cl_engine.upkeep.shrink_perturb import ShrinkPerturb, drawn_from
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
