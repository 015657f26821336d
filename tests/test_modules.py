"""Modules, their library, and the paths that are tried."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cl_engine.core.tree import Tree
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import CurvePoint, EpochEnded, Evaluated, Event, Progress
from cl_engine.experiment import Experiment
from cl_engine.modules.candidates import Prior, candidates
from cl_engine.modules.events import CandidateTried, ModuleAdded, PathChosen, PathSampled, PathStep
from cl_engine.modules.library import Library
from cl_engine.nets.mlp import Mlp
from cl_engine.nn.division import division
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT
from cl_engine.nn.net import Net
from cl_engine.testing.walking import after_each_task
from cl_engine.training.candidate_fit import CandidateFit, fit_candidates
from cl_engine.training.fit_job import TrainingProbe
from tests.conftest import TINY


def mlp() -> Net:
    built = Mlp()
    built.configure({"hidden": [4, 3], "norm": "batch"})
    return Net(lambda: built.build((1, 2, 3), 2), (1, 2, 3))


class Staged(nn.Module):
    stages = (("first", "norm"), ("second",))

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second, self.end = (
            nn.Linear(6, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 4),
            nn.Linear(4, 2),
        )

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.end(self.second(self.norm(self.first(x.flatten(1)))))


class Unnamed(Staged):
    stages = (("first",), ("second",))


def test_a_net_is_cut_before_each_layer_with_weights_and_its_normalisation_goes_with_it():
    parts = division(mlp())
    assert [part[0] for part in parts] == ["1.weight", "4.weight", HEAD_WEIGHT]
    assert "2.running_mean" in parts[0]
    assert parts[-1] == [HEAD_WEIGHT, HEAD_BIAS]


def test_a_net_that_names_its_stages_is_cut_there():
    parts = division(Net(Staged, (1, 2, 3)))
    assert parts[0] == ["first.weight", "first.bias", "norm.weight", "norm.bias"]
    with pytest.raises(UsageError, match=r"it is otherwise with: norm\.bias, norm\.weight"):
        division(Net(Unnamed, (1, 2, 3)))


@pytest.mark.parametrize(("prior", "count"), [("forward", 5), ("backward", 8), ("full", 11)])
def test_a_prior_gives_each_path_once_the_most_reusing_first(prior: Prior, count: int):
    found = candidates(prior, 4)
    assert len(found) == len(set(found)) == count
    assert found[0] == (True,) * 4
    assert found[-1] == (False,) * 4
    assert [sum(path) for path in found] == sorted((sum(path) for path in found), reverse=True)
    assert not any(path[-1] for path in candidates(prior, 4, same_outputs=False))


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8))
def test_a_library_gives_back_what_each_seed_put_in_and_changes_nothing_it_holds(choices: list[list[bool]]):
    net = mlp()
    library = Library(net, division(net))
    state = library.start(2)
    paths: list[torch.Tensor] = []
    kept: list[dict[str, torch.Tensor]] = []
    for task, choice in enumerate(choices):
        new = torch.tensor(choice).reshape(2, 3) if paths else torch.ones(2, 3, dtype=torch.bool)
        before = paths[-1] if paths else torch.zeros(2, 3, dtype=torch.int64)
        params = net.init([2 * task, 2 * task + 1])
        path = library.add(state, params, before, new)
        state["paths"].put(task, path)
        found = library.params(state, path)
        old = kept[-1] if kept else {}
        for depth, layout in enumerate(library.layouts):
            for name in layout.shapes:
                for seed in range(2):
                    expected = params[name][seed] if new[seed, depth] else old[name][seed]
                    assert torch.equal(found[name][seed], expected)
        paths.append(path)
        kept.append({name: tensor.clone() for name, tensor in found.items()})
    for path, params in zip(paths, kept, strict=True):
        assert all(torch.equal(library.params(state, path)[name], tensor) for name, tensor in params.items())
    counts = uses(library, state)
    assert all(count.sum(dim=1).tolist() == [len(choices)] * 2 for count in counts)
    assert [int(count.max(dim=1).values.min()) >= 1 for count in counts] == [True] * 3


def uses(library: Library, state: Any) -> list[torch.Tensor]:
    """Return for each depth how many tasks use each row, ``[S, n]``."""
    paths = state["paths"].rows
    rows = [torch.arange(len(state["modules"][f"{depth}"])) for depth in range(library.depths)]
    return [(paths[:, :, depth].unsqueeze(2) == each).sum(dim=1) for depth, each in enumerate(rows)]


def events_of(name: str, **options: Any) -> tuple[list[Event], Any]:
    experiment = Experiment.of(TINY, name, (0, 1), **options)
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    agenda = plan(stream, experiment.agenda)
    return list(simulate(stream, strategy, agenda, curve=experiment.curve)), strategy


def test_every_path_is_tried_over_the_grid_and_the_best_on_validation_rows_is_kept():
    events, _ = events_of("mntdp", lrs=[0.01, 0.001], **{"net.hidden": [6, 5]})
    for task in range(3):
        tried = [e for e in events if isinstance(e, CandidateTried) and e.task_id == task]
        # three depths: nothing, one or two reused with two rates each, and all of them as they are
        assert sorted((e.reused for e in tried), reverse=True) == ([0, 0] if task == 0 else [3, 2, 2, 1, 1, 0, 0])
        [chosen] = [e for e in events if isinstance(e, PathChosen) and e.task_id == task]
        for seed in range(2):
            best = max(e.validation[seed] for e in tried)
            assert chosen.validation[seed] == best
            assert chosen.reused[seed] == max(e.reused for e in tried if e.validation[seed] == best)


def test_the_library_holds_what_tasks_added_and_what_it_holds_never_changes():
    events, strategy = events_of("mntdp", **{"net.hidden": [6, 5]})
    added = [3 - reused for e in events if isinstance(e, PathChosen) for reused in e.reused[:1]]
    assert int(strategy.state["held"][0].sum()) == sum(added)
    users = uses(strategy._growth.library, strategy.state)
    assert all((count[0] > 0).sum() == held for count, held in zip(users, strategy.state["held"][0], strict=True))


def test_paths_trained_side_by_side_reach_what_they_reach_in_turn(monkeypatch: pytest.MonkeyPatch):
    def tried(together: bool) -> dict[tuple[int, int], CandidateTried]:
        monkeypatch.setattr(Net, "side_by_side", lambda self, seeds: together and seeds > 1)
        events, _ = events_of("mntdp", **{"net.hidden": [6, 5]})
        return {(e.task_id, e.reused): e for e in events if isinstance(e, CandidateTried)}

    together, in_turn = tried(True), tried(False)
    assert together.keys() == in_turn.keys()
    for key, one in together.items():
        assert one.validation == pytest.approx(in_turn[key].validation, abs=0.09)  # one of twelve rows, by rounding


def test_the_head_of_another_task_is_tried_for_the_seeds_alone_whose_task_asks_for_the_same():
    experiment = Experiment.of(
        TINY, "mntdp", (0, 1), **{"stream.name": "split", "stream.n": 3}
    )  # of 4, 3 and 3 classes
    for stream, learner in after_each_task(experiment):
        if len(learner.state["paths"]) == 2:
            growth = learner._growth
            assert growth.same_outputs(learner.state, (0, 1), stream[2]).tolist() == [False, True]
            whole = [trial for trial in learner._trials(stream[2], [[0], [1]]) if not trial.learns]
            assert [trial.own.tolist() for trial in whole] == [[False, True]]


def test_a_budget_of_steps_ends_the_search_and_the_best_so_far_is_kept():
    events, _ = events_of("mntdp", budget_steps=1, **{"net.hidden": [6, 5]})
    tried = [e for e in events if isinstance(e, CandidateTried) and e.task_id == 2]
    assert [e.reused for e in tried] == [3, 2]
    assert [e.first_new for e in tried] == [3, 2]
    [chosen] = [e for e in events if isinstance(e, PathChosen) and e.task_id == 2]
    assert min(chosen.reused) >= 2


def test_modules_of_several_past_models_are_tried_where_asked():
    events, _ = events_of("mntdp", sources=2, **{"net.hidden": [6, 5]})
    tried = [e for e in events if isinstance(e, CandidateTried) and e.task_id == 2]
    assert sorted((e.rank, e.reused) for e in tried) == [(0, 0), *((r, k) for r in (0, 1) for k in (1, 2, 3))]


def test_the_learning_curve_is_that_of_the_path_that_was_chosen():
    same = {"stream.name": "rotated", "stream.degrees": 0.01, "stream.samples_per_class": 40, "train.epochs": 10}
    events, _ = events_of("mntdp", **same, **{"net.hidden": [16, 16], "agenda.curve_batches": 3})
    for task in range(3):
        [chosen] = [e for e in events if isinstance(e, PathChosen) and e.task_id == task]
        points = {e.batch: e.n_correct for e in events if isinstance(e, CurvePoint) and e.task_id == task}
        [tested] = [e.n_correct for e in events if isinstance(e, Evaluated) and e.task_id == e.step == task]
        assert sorted(points) == [0, 1, 2, 3]
        for seed, reused in enumerate(chosen.reused):
            if reused == 3:  # nothing was learned: all points are what was there
                assert {found[seed] for found in points.values()} == {tested[seed]}
            elif reused == 0:
                assert points[0][seed] < 0.5 * 50 < tested[seed]


def test_every_step_of_a_path_and_every_module_added_is_told():
    events, strategy = events_of("mntdp", **{"net.hidden": [6, 5]})
    paths = strategy.state["paths"].rows
    for event in events:
        if isinstance(event, PathStep):
            depth = int(event.part.split()[-1])
            assert event.module == tuple(paths[:, event.task_id, depth].tolist())
    for seed in range(2):
        added = [e.module[seed] for e in events if isinstance(e, ModuleAdded) and e.module[seed] >= 0]
        assert len(added) == int(strategy.state["held"][seed].sum())


def test_the_stochastic_search_moves_to_a_path_trains_it_and_keeps_nothing_else():
    options = {"search": 12, "path_lr": 0.5, "entropy": 0.0, "settled": 0.2, "net.hidden": [6, 5]}
    events, strategy = events_of("mntdp_s", **options)
    sampled = [e for e in events if isinstance(e, PathSampled) and e.task_id == 1]
    even = math.log(3 + 1)
    assert all(entropy == pytest.approx(even) for entropy in sampled[0].entropy)
    assert max(sampled[-1].entropy) < even
    users = uses(strategy._growth.library, strategy.state)
    assert all((count[0] > 0).sum() == held for count, held in zip(users, strategy.state["held"][0], strict=True))
    early = events_of("mntdp_s", **{**options, "settled": 2.0})[0]
    assert len([e for e in early if isinstance(e, PathSampled) and e.task_id == 1]) == 1


def test_a_seed_whose_search_has_settled_keeps_what_it_had_while_that_of_another_goes_on():
    options = {"search": 12, "path_lr": 0.5, "entropy": 0.0, "settled": 0.5, "net.hidden": [6, 5]}
    nets, settled = [], []
    for seeds in ((0,), (1,), (0, 1)):
        experiment = Experiment.of(TINY, "mntdp_s", seeds, **options)
        strategy = experiment.build_strategy(stream := experiment.stream())
        events = list(simulate(stream, strategy, plan(stream, experiment.agenda)))
        settled.append([e.epoch for e in events if isinstance(e, PathSampled) and e.task_id == 1][-1])
        nets.append(strategy._growth.net_of(strategy.state, 1))
    assert settled[0] != settled[1]  # so that one of them waits for the other
    for name, together in nets[2].items():
        for seed in (0, 1):
            torch.testing.assert_close(together[seed], nets[seed][name][0], rtol=1e-3, atol=1e-5)


def test_the_library_says_of_each_module_whose_it_is_and_how_many_tasks_use_it():
    _, strategy = events_of("mntdp", **{"net.hidden": [6, 5]})
    paths, found = strategy.state["paths"].rows[1], strategy._growth.library.modules(strategy.state, 1)
    assert len(found) == int(strategy.state["held"][1].sum())
    for module in found:
        users = (paths[:, module.depth] == module.row).nonzero().flatten().tolist()
        assert (module.owner, module.uses) == (users[0], len(users))


def test_a_task_that_comes_back_keeps_its_path():
    events, strategy = events_of("mntdp", **{"stream.revisit": [0]})
    assert len(strategy.state["paths"]) == 3
    assert len([e for e in events if isinstance(e, PathChosen)]) == 3


def test_a_task_like_an_earlier_one_is_answered_by_its_modules_without_training():
    same = {"stream.name": "rotated", "stream.degrees": 0.01, "stream.samples_per_class": 40}
    events, _ = events_of("mntdp", **same, **{"train.epochs": 10, "net.hidden": [16, 16]})
    as_they_are = [e for e in events if isinstance(e, CandidateTried) and e.reused == 3]
    assert [e.task_id for e in as_they_are] == [1, 2]
    assert min(accuracy for e in as_they_are for accuracy in e.validation) > 0.7


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_fit_of_candidates_costs_each_its_own_operations_to_the_last_digit_and_passes_all_events_on(count: int):
    flops, epochs = 1_000_001.0, 4

    def fitting() -> Generator[Event, None, Tree]:
        for epoch in range(epochs):
            yield TrainingProbe(
                step=0, batch=epoch, epoch=epoch, predict=lambda x: x, params=lambda at=epoch: {"at": at}
            )
            yield Progress(step=0, done=epoch / epochs)
            for fit in range(count):
                told = {"task_id": 0, "epoch": epoch, "epochs": epochs, "loss": (1.0,), "seconds": 0.0}
                yield EpochEnded(step=0, fit=fit, flops=flops, **told)
        return {"new": torch.ones(count)}

    running, events = fit_candidates(fitting(), count, points=2), []
    while True:
        try:
            events.append(next(running))
        except StopIteration as stop:
            found: CandidateFit = stop.value
            break
    assert (found.flops, found.epochs) == (epochs * flops, epochs)
    assert found.moments == {0: {"at": 0}, 1: {"at": 1}}
    assert torch.equal(found.params["new"], torch.ones(count))
    assert [type(event) for event in events] == [Progress, *[EpochEnded] * count] * epochs
    assert [event.fit for event in events if isinstance(event, EpochEnded)] == [*range(count)] * epochs
