"""Adapt: a frozen net with a head, a tuned copy, or a net from scratch; and what the log of a taxonomy advises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.errors import UsageError
from cl_engine.events import Event
from cl_engine.experiment import Experiment
from cl_engine.modules.adaptation import AdaptationChosen, AdaptationPromised, AdaptationRegretted, AdaptationTried
from cl_engine.modules.logged_transfers import LoggedTransfers
from cl_engine.results.transfers import Kind, Transfer, Transfers
from cl_engine.strategies.adapt import Adapt
from cl_engine.strategies.experts import GENERALIST, ExpertChosen
from cl_engine.testing import small
from cl_engine.testing.walking import walk
from cl_engine.training.grid import GridPointTried
from tests.conftest import TINY

Tiny = Callable[..., Experiment]
NAMES = ("plain", "permutation 1", "permutation 2")


def told(experiment: Experiment, kind: type[Event]) -> list[Any]:
    """Return the events of one kind of a whole run."""
    return [event for event in walk(experiment)[2] if isinstance(event, kind)]


def taxonomy(wrong: dict[tuple[int, int], float]) -> list[Transfers]:
    """Return a log in which the readout of a source errs on a share of a target's rows, scratch on half, untrained on all."""

    def errors(share: float) -> np.ndarray:
        return (np.arange(20) < 20 * share).astype(np.float32)

    def probed(target: int, sources: tuple[int, ...], kind: Kind, share: float) -> Transfer:
        return Transfer(target, sources, kind, 10, errors(share), errors(share), 1 - share)

    ways = [probed(target, (source,), "transfer", share) for (source, target), share in wrong.items()]
    for target in range(len(NAMES)):
        ways += [probed(target, (), "scratch", 0.5), probed(target, (), "untrained", 1.0)]
    return [Transfers(0, NAMES, (10, 10, 10), frozenset(), tuple(ways))]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every strategy read the same log, of which source 0 is bad for task 2 and source 1 good; both for task 1."""
    found = LoggedTransfers.of(taxonomy({(0, 1): 0.1, (0, 2): 0.9, (1, 2): 0.2}), NAMES, "here")
    for place in ("strategies.adapt", "modules.shortlist"):
        monkeypatch.setattr(f"cl_engine.{place}.logged_transfers", lambda run, *rest: None if run is None else found)


def test_thresholds_out_of_order_are_refused_and_others_decide_how_a_task_is_learned(tiny: Tiny):
    experiment = tiny("adapt", near=0.5, margin=0.5, **{"stream.n": 1})
    with pytest.raises(UsageError, match=r"strategy.margin: found 0.5, and strategy.near 0.5: it must be less"):
        experiment.build_strategy(experiment.stream())
    for near, margin, ways in ((0.01, 0.0, (0, 0)), (2.0, 1.0, (2, 2))):
        chosen = told(tiny("adapt", near=near, margin=margin, **{"stream.n": 1}), AdaptationChosen)
        assert [event.how for event in chosen] == [ways]


def test_advice_is_extract_where_near_tune_where_better_than_untrained_and_else_scratch(tiny: Tiny):
    experiment = tiny("adapt", near=0.9, margin=0.1)
    strategy = experiment.build_strategy(experiment.stream())
    assert isinstance(strategy, Adapt)
    assert [strategy._advised(*pair) for pair in ((0.95, 0.95), (0.8, 0.6), (0.8, 0.75))] == [0, 1, 2]


def test_tried_ways_have_the_same_rates_and_the_regret_is_against_the_best_of_them(tiny: Tiny):
    events = list(walk(tiny("adapt", tried=True, choose="worst", lrs=[0.01, 0.001], **{"stream.n": 1}))[2])
    rates = [event.lr for event in events if isinstance(event, GridPointTried)]
    assert rates == [0.01, 0.001] * 3
    tried = {event.part: event.validation for event in events if isinstance(event, AdaptationTried)}
    assert list(tried) == ["extract", "tune", "scratch"]
    scores = np.array(list(tried.values()))
    (regret,) = (event.regret for event in events if isinstance(event, AdaptationRegretted))
    np.testing.assert_allclose(regret, scores.max(axis=0) - scores.min(axis=0), atol=1e-6)


@pytest.mark.parametrize("head", ["linear", "mlp", "mix"])
def test_a_frozen_backbone_is_the_same_after_a_head_on_it_has_learned(tiny: Tiny, head: str):
    stream, strategy, events = walk(tiny("adapt", choose="extract", head=head, **{"stream.n": 1}))
    assert list(events)
    for name, row in strategy.state["base"].items():
        assert torch.equal(row[0], strategy.net.pretrained[name])
    assert all(len(bank) == 0 for bank in strategy.state["nets"].values())
    right = strategy.predict(stream.test(0).x, 0).argmax(-1) == stream.test(0).y
    assert right.double().mean() > 0.2  # of ten classes, after two epochs


def test_seeds_that_choose_otherwise_are_each_answered_by_what_they_chose(tiny: Tiny):
    experiment = tiny("adapt")
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    assert isinstance(strategy, Adapt)
    strategy.state = strategy.start()
    x, chosen = stream.test(0).x, torch.tensor([0, 2])
    learned = {0: strategy._head.start(strategy._base, strategy.seeds, 3), 2: strategy._drawn}
    strategy._keep(0, learned, chosen)
    said = strategy.predict(x, 0)
    assert torch.equal(said[0], strategy._said(0, learned[0], x)[0])
    assert torch.equal(said[1], strategy._said(2, learned[2], x)[1])


def test_layers_further_from_the_head_of_a_tuned_copy_learn_more_slowly_where_that_is_asked_for(tiny: Tiny):
    experiment = tiny("adapt", decay=0.5)
    strategy = experiment.build_strategy(experiment.stream())
    assert isinstance(strategy, Adapt)
    shares = list(dict.fromkeys(strategy._shares.values()))
    assert shares == [0.125, 0.25, 0.5]  # three layers before the head


def test_adapt_without_a_backbone_says_so_unless_all_is_from_scratch():
    scenario = small.scenario()
    experiment = Experiment.of(scenario, "adapt")
    with pytest.raises(UsageError, match=r"strategy.choose: 'advice' needs a pre-trained net.*\[backbone\]"):
        experiment.build_strategy(experiment.stream())
    scratch = Experiment.of(scenario, "adapt", choose="scratch")
    assert scratch.build_strategy(scratch.stream()).choose == "scratch"  # type: ignore[attr-defined]


def test_a_proxy_of_classes_is_refused_where_a_task_asks_for_something_else():
    experiment = Experiment.of(TINY.with_name("views.toml"), "adapt", proxy="leep", choose="scratch")
    with pytest.raises(UsageError, match=r"strategy.proxy: 'leep' tells of classes alone"):
        experiment.build_strategy(experiment.stream())


def test_a_log_is_read_by_names_of_tasks_and_says_which_are_missing_or_ambiguous():
    found = taxonomy({(0, 1): 0.0})
    turned = LoggedTransfers.of(found, ("permutation 1", "plain"), "here")
    assert turned.source(0, 1) == pytest.approx(np.log(0.75))  # right on all rows, scratch on half: ties count a half
    with pytest.raises(UsageError, match="here: the run has no task 'tree'; it is about: plain, permutation 1"):
        LoggedTransfers.of(found, ("tree",), "here")
    with pytest.raises(UsageError, match="several are called 'plain'"):
        LoggedTransfers.of(found, ("plain", "plain"), "here")
    with pytest.raises(UsageError, match="lacks ways to 'permutation 2'"):
        LoggedTransfers.of(found, NAMES, "here").source(2, 0)


def test_a_run_without_transfers_is_no_advice(tiny: Tiny, tmp_path: Path):
    folder = tiny("independent", **{"stream.n": 1}).run(tmp_path / "run")
    experiment = tiny("experts", sources_from=str(folder))
    pytest.importorskip("cl_engine.strategies.taxonomy")
    with pytest.raises(UsageError, match="holds no transfers"):
        experiment.build_strategy(experiment.stream())


def test_experts_start_from_the_source_that_the_log_ranks_first(tiny: Tiny, logged: None):
    chosen = [event.expert for event in told(tiny("experts", sources_from="there"), ExpertChosen)]
    assert chosen == [(GENERALIST, GENERALIST), (0, 0), (1, 1)]


@pytest.mark.parametrize("name", ["mntdp", "compose"])
def test_module_strategies_rank_past_tasks_by_the_log(tiny: Tiny, logged: None, name: str):
    from cl_engine.modules.events import SourceScored

    scores = {
        event.source: event.score[0]
        for event in told(tiny(name, sources_from="there"), SourceScored)
        if event.task_id == 2
    }
    assert scores[0] == pytest.approx(np.log(0.3)) and scores[1] == pytest.approx(np.log(0.65))


def test_adapt_takes_its_promise_from_the_log(tiny: Tiny, logged: None):
    events = list(walk(tiny("adapt", advice_from="there"))[2])
    promised = [event.promise[0] for event in events if isinstance(event, AdaptationPromised)]
    np.testing.assert_allclose(promised, np.log([0.25, 0.7, 0.65]))
    assert [event.how for event in events if isinstance(event, AdaptationChosen)] == [(2, 2), (0, 0), (0, 0)]
