"""PICLE: Gaussians of modules' inputs, prefixes and suffixes, and what they cost; past tasks that are recognised."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.modules.events import (
    CandidateTried,
    ModuleAdded,
    PathChosen,
    PrefixScored,
    SourceRecognised,
    SourceScored,
    SuffixTried,
)
from cl_engine.modules.gaussians import Gaussians
from cl_engine.modules.growth import Growth
from cl_engine.modules.module_inputs import ModuleInputs
from cl_engine.modules.suffix_search import SuffixSearch
from cl_engine.modules.surrogate import Process, Surrogate, expected_improvement
from cl_engine.nn.net import Net
from cl_engine.runs.plugins import net_builder
from cl_engine.strategies.experts import ExpertScored
from cl_engine.strategies.picle import Picle
from cl_engine.targets.classes import Classes
from tests.conftest import TINY

Tiny = Callable[..., Experiment]
PAIRS: dict[str, Any] = {"maps": [], "hidden": [5], "code": 3, "after": [4]}


def learned(strategy: str, seeds: tuple[int, ...] = (0, 1), tasks: int = 4, **changes: Any) -> tuple[list[Any], Any]:
    """Return all events of learning this many tasks, and the strategy."""
    experiment = Experiment.of(TINY, strategy, seeds, **{"stream.n": tasks, **changes})
    stream = experiment.stream()
    learner = experiment.build_strategy(stream)
    learner.state = learner.start()
    return [event for step in range(tasks) for event in learner.learning(stream[step])], learner


def told(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(2, 40), st.integers(0, 5))
def test_a_stored_gaussian_gives_the_density_of_its_mean_and_covariance(width: int, count: int, seed: int):
    draw = torch.Generator().manual_seed(seed)
    gaussians = Gaussians(width, dimensions=6)
    seen, asked = (gaussians.projected(torch.randn(1, n, width, generator=draw)) for n in (count, 7))
    d = gaussians.dimensions
    assert d == min(width, 6)
    x = seen[0].double()
    scatter = torch.atleast_2d(torch.cov(x.T, correction=0))
    few = (d + 1) / (count + d + 1)
    covariance = (1 - few) * scatter + few * scatter.diagonal().mean().clamp_min(1e-6) * torch.eye(d)
    whole = torch.distributions.MultivariateNormal(x.mean(dim=0), covariance)
    found = gaussians.log_density(gaussians.row(seen).unsqueeze(1), asked)
    assert float(found) == pytest.approx(float(whole.log_prob(asked[0].double()).sum()), rel=1e-3)


def test_a_gaussian_of_one_row_or_of_inputs_that_never_change_is_finite():
    gaussians = Gaussians(30, dimensions=20)
    for seen in (gaussians.projected(torch.zeros(1, 9, 30)), gaussians.projected(torch.randn(1, 1, 30))):
        row = gaussians.row(seen)
        assert torch.isfinite(row).all()
        assert torch.isfinite(gaussians.log_density(row.unsqueeze(1), seen)).all()


@pytest.mark.parametrize(
    ("net", "options", "shape"),
    [
        ("mlp", {"hidden": [6, 5]}, (1, 2, 2)),
        ("pairs", PAIRS, (2, 4, 4)),
        ("small_cnn", {"width": 4}, (1, 8, 8)),
        ("vit", {"width": 16, "patch": 4}, (1, 8, 8)),  # its first module ends with a weight of the net itself
    ],
)
def test_modules_that_are_given_what_was_kept_answer_as_the_whole_net_does(
    net: str, options: dict[str, Any], shape: tuple[int, ...]
):
    made = Net(net_builder(net, options, shape, 3), shape)
    inputs, params, x = ModuleInputs(made, 20), made.init([0, 1]), torch.randn(6, *shape)
    seen = inputs.seen(params, x)
    for depth in range(1, len(seen)):
        kept = inputs.kept(params, x, depth)
        assert torch.equal(inputs.gaussians[depth].projected(kept.flatten(2)), seen[depth])
        for seed in range(2):
            own = {name: tensor[seed] for name, tensor in params.items()}
            torch.testing.assert_close(inputs.answered(own, kept[seed], depth), made.one(own, x, False))


def test_the_process_is_that_of_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    draw = np.random.default_rng(0)
    known, asked = draw.normal(size=(9, 3)), draw.normal(size=(4, 3))
    losses = np.sin(known).sum(axis=1) + 0.2 * draw.normal(size=9)
    losses -= losses.mean()

    def squares(one: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.square(one[:, None] - known[None]).sum(axis=2)
        return found

    mean, deviation = Process(squares(known), losses).at(squares(asked))
    theirs = GaussianProcessRegressor(ConstantKernel() * RBF() + WhiteKernel(0.01)).fit(known, losses)
    expected = theirs.predict(asked, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-4)
    np.testing.assert_allclose(deviation, expected[1], atol=1e-4)


def test_a_search_ends_where_no_improvement_is_expected_and_skips_what_is_not_finite():
    tries = Surrogate(np.array([[0.0], [0.01], [np.nan], [9.0]]), worth=0.001)
    assert 2 not in tries.central(4)
    tries.observe(3, 1.0)
    assert tries.next() is not None
    tries.observe(0, math.nan)  # stands for a great loss
    assert tries.losses[0] == 1.0
    tries.observe(1, 0.2)
    assert (tries.best, tries.next()) == (1, None)
    assert Surrogate(np.zeros((1, 1)), worth=0.0).central(1) == [0]
    assert expected_improvement(0.5, 1.0, 0.0) == 0.0


def test_the_first_task_is_learned_by_a_new_net_alone_and_later_ones_by_prefixes_and_suffixes_too():
    events, strategy = learned("picle")
    depths = 4
    by_task = [[e for e in told(events, CandidateTried) if e.task_id == task] for task in range(4)]
    assert [e.reused for e in by_task[0]] == [0]
    for own in by_task[1:]:
        prefixes = [e.reused for e in own if e.first_new > 0]
        assert sorted(prefixes) == [1, 2, 3, 4, *([4] * (len(prefixes) - 4))]
        assert any(e.reused == 3 and e.first_new == 0 for e in own)
        assert sum(e.flops > 0 for e in own) <= 1 + depths + strategy.tries + 1
    assert {e.part for e in told(events, PrefixScored)} == {f"depth {depth}" for depth in range(depths)}
    best = told(events, PathChosen)
    assert [e.task_id for e in best] == [0, 1, 2, 3]
    assert {"gaussians", "scores", "inputs", "asked", "modules", "paths"} <= set(strategy.state)


def test_what_is_searched_can_be_chosen_and_a_head_is_reused_only_where_as_much_is_asked():
    events, _ = learned("picle", tasks=3, search=["prefixes"])
    assert not told(events, SuffixTried)
    events, _ = learned("picle", tasks=3, search=["suffixes"], tries=1)
    assert not told(events, PrefixScored)
    assert next(e.length for e in told(events, SuffixTried) if e.task_id == 1) == 3
    different = {"stream.name": "split", "stream.n": 3, "stream.class_order": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}
    experiment = Experiment.of(TINY, "picle", (0,), **different)
    stream = experiment.stream()
    counts = [stream[step].classes for step in range(3)]
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    found = [event for step in range(3) for event in strategy.learning(stream[step])]
    for task, count in enumerate(counts):
        whole = [e for e in told(found, CandidateTried) if e.task_id == task and e.reused == 4]
        assert bool(whole) == (count in counts[:task])


def test_a_task_that_was_learned_before_is_recognised_and_adds_no_module():
    changes: dict[str, Any] = {
        "net.hidden": [16, 16],
        "train.epochs": 8,
        "stream.samples_per_class": 20,
        "search": ["prefixes"],
    }
    experiment = Experiment.of(TINY, "picle", (0,), **{"stream.n": 3, **changes})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert isinstance(strategy, Picle)
    strategy.state = strategy.start()
    for step in range(3):
        list(strategy.learning(stream[step]))
    again = dataclasses.replace(stream[1], step=3, task_id=3)
    found = list(strategy.learning(again))
    assert [e.source for e in told(found, PrefixScored)][:1] == [(1,)]
    [chosen] = told(found, PathChosen)
    assert chosen.source == (1,)
    assert chosen.reused[0] >= 1


def test_modules_are_frozen_and_what_is_kept_does_not_depend_on_later_tasks():
    _, strategy = learned("picle", tasks=2)
    x = torch.rand(5, *strategy.net.input_shape)
    before = [strategy.predict(x, task) for task in range(2)]
    _, later = learned("picle", tasks=4)
    assert all(torch.equal(one, later.predict(x, task)) for task, one in enumerate(before))


def test_inputs_are_kept_once_a_module_in_half_precision_and_counted():
    events, strategy = learned("picle", seeds=(0,), shortest=2, stored=7)
    kept = strategy.state["inputs"]
    added = [e for e in told(events, ModuleAdded) if e.part == "depth 2"]
    assert len(kept) == len(added)
    assert (kept.rows.dtype, kept.rows.shape[2:]) == (torch.float16, (7, 12))


def test_a_net_without_hidden_layers_has_prefixes_alone():
    events, strategy = learned("picle", tasks=3, **{"net.hidden": []})
    assert not told(events, SuffixTried)
    assert len(strategy.state["paths"]) == 3


@pytest.mark.parametrize(
    ("name", "kind"), [("mntdp", SourceScored), ("experts", ExpertScored), ("compose", SourceScored)]
)
def test_past_tasks_are_asked_whose_inputs_were_most_alike(name: str, kind: type):
    asked = {"mntdp": 5, "experts": 6, "compose": 5}[name]  # experts: and the net that all start from
    events, strategy = learned(name, seeds=(0,), tasks=6)
    assert sum(e.task_id == 5 for e in told(events, kind)) == asked
    assert "inputs" not in strategy.state
    few, strategy = learned(name, seeds=(0,), tasks=6, sources="gaussian", scanned=2)
    assert sum(e.task_id == 5 for e in told(few, kind)) == 2 + (name == "experts")
    assert len(strategy.state["inputs"]) == 6
    recognised = [e for e in told(few, SourceRecognised) if e.task_id == 5]
    assert [e.log_density for e in recognised] == sorted((e.log_density for e in recognised), reverse=True)
    assert not strategy.growing


def test_the_task_whose_inputs_come_again_is_recognised_first():
    experiment = Experiment.of(TINY, "experts", (0,), **{"stream.n": 4, "sources": "gaussian", "scanned": 1})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    strategy.state = strategy.start()
    for step in range(4):
        list(strategy.learning(stream[step]))
    for task in range(4):
        again = dataclasses.replace(stream[task], step=4, task_id=4)
        looked = strategy._shortlist.tasks(strategy.state, range(4), again, 1000)  # type: ignore[attr-defined]
        [event] = list(looked)
        assert event.source == task  # type: ignore[attr-defined]


def test_two_ways_to_say_which_past_tasks_are_looked_at_are_refused(tiny: Tiny):
    for name in ("mntdp", "experts", "compose"):
        experiment = tiny(name, sources="gaussian", sources_from="there")
        with pytest.raises(UsageError, match=r"strategy.sources = gaussian: leave one of them out"):
            experiment.build_strategy(experiment.stream()).check_stream(experiment.stream())
    with pytest.raises(UsageError, match=r"strategy.mntdp.sources: input should be 'gaussian', found \"gausian\""):
        tiny("mntdp", sources="gausian")


def test_only_tasks_of_as_many_classes_have_suffixes_for_each_other():
    net = Net(net_builder("mlp", {"hidden": [6, 5]}, (1, 2, 2), 3), (1, 2, 2))
    growth = Growth(net, [0], lambda task_id: Classes.of(classes=3))
    search = SuffixSearch(growth, ModuleInputs(net, 20), shortest=3, stored=4, most=2)
    assert search.among({}, 0, np.zeros(3, dtype=bool), net.init([0]), 0.001) is None


def test_inputs_of_modules_wider_than_what_is_looked_at_are_seen_of_seeds_side_by_side():
    events, learner = learned("picle", seeds=(0, 1, 2), tasks=2, **{"net.hidden": [23, 21], "dimensions": 4})
    assert learner.net.side_by_side(3)
    assert len(told(events, PathChosen)) == 2
