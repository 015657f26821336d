"""Strategies `taxonomy` and `policy`: readouts of frozen nets are probed, logged and executed, and nothing else is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.stream import Data
from cl_engine.errors import UsageError
from cl_engine.events import TaskStarted, Transferred
from cl_engine.experiment import Experiment
from cl_engine.modules.readout import Readout, ReadoutOptions
from cl_engine.modules.similarity import groups_of, linear_cka, rsa, shared_information
from cl_engine.modules.transfers import ROWS_AT_ONCE, Outcomes, sets_of_sources
from cl_engine.nn.net import Net
from cl_engine.results.run import Run, open_run
from cl_engine.results.transfers import Transfers, compared_of, transfers_of
from cl_engine.runs.plugins import net_builder
from cl_engine.strategies.policy import Routed
from cl_engine.targets.classes import Classes
from cl_engine.targets.numbers import Numbers
from cl_engine.testing.walking import walk

Tiny = Callable[..., Experiment]
SEEDS = (0, 1)
NAMES = ("digit", "parity", "flip")
DIGITS: dict[str, Any] = {
    "stream.views": list(NAMES),
    "stream.labelled": 400,
    "stream.test_rows": 60,
    "net.name": "mlp",
    "net.hidden": [24],
    "train.epochs": 5,
    "agenda.evaluate_ahead": 0,
}
PROBED: dict[str, Any] = {**DIGITS, "stream.validation": 0.4, "labels": 60, "readout_epochs": 15, "hidden": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    experiment = Experiment.of("views_digits", "taxonomy", SEEDS, **PROBED)
    return open_run(experiment.run(tmp_path_factory.mktemp("taxonomy"), device="cpu"))


@pytest.fixture(scope="module")
def probed(run: Run) -> list[Transfers]:
    return transfers_of(run)


def test_every_net_is_tried_for_every_task_and_sets_of_nets_and_the_controls_beside(probed: list[Transfers]):
    ways = Counter((transfer.target, transfer.kind, transfer.sources) for transfer in probed[0].probed)
    assert set(ways.values()) == {1}
    for target in range(3):
        others = tuple(task for task in range(3) if task != target)
        transfers = [(0,), (1,), (2,), others]
        wanted = {("full", ()), ("scratch", ()), ("untrained", ()), ("copies", (target, target))}
        wanted |= {("transfer", sources) for sources in transfers}
        assert {(kind, sources) for task, kind, sources in ways if task == target} == wanted
    assert probed[0].names == NAMES
    assert probed[0].free == {2}
    assert [of_seed.seed for of_seed in probed] == list(SEEDS)


def test_each_way_has_an_outcome_for_all_validation_rows_and_says_how_many_labels_it_took(probed: list[Transfers]):
    assert probed[0].labels == (240,) * 3
    for transfer in (one for of_seed in probed for one in of_seed.probed):
        assert transfer.labels == (240 if transfer.kind == "full" else 60)
        assert transfer.losses.shape == transfer.errors.shape == (160,)
        assert set(transfer.errors) <= {0.0, 1.0}
        assert transfer.score == pytest.approx(1 - transfer.errors.mean())
        assert transfer.losses.min() >= 0


def test_a_net_that_learned_the_task_serves_it_better_than_an_untrained_one(probed: list[Transfers]):
    for of_seed in probed:
        mean = {kind: [t.score for t in of_seed.probed if t.kind == kind] for kind in ("full", "copies", "untrained")}
        own = np.mean([t.score for t in of_seed.probed if t.sources == (t.target,)])
        assert np.mean(mean["full"]) > own > np.mean(mean["untrained"]) + 0.02


def test_nets_and_the_labels_of_rows_that_tasks_share_are_compared_once(run: Run):
    found = compared_of(run)
    assert list(found) == ["rsa", "cka", "labels"]
    for matrices in found.values():
        assert matrices.shape == (2, 3, 3)
        np.testing.assert_array_equal(matrices, matrices.transpose(0, 2, 1))
        assert np.isnan(matrices[:, range(3), range(3)]).all()
        assert np.isfinite(matrices).sum() == 2 * 6
    parity = found["labels"][0, 0, 1]
    assert parity == pytest.approx(2 * np.log(2) / (np.log(2) + np.log(10)), abs=0.02)
    assert found["labels"][0, 0, 2] < 0.1  # whether an image was mirrored is drawn anew


def test_tasks_without_common_rows_have_no_common_labels(tiny: Tiny, tmp_path: Path):
    assert list(compared_of(open_run(tiny("taxonomy", (0,), order=1).run(tmp_path)))) == ["rsa", "cka"]


def test_a_task_that_comes_back_is_neither_learned_nor_probed_again(tiny: Tiny):
    events = list(walk(tiny("taxonomy", (0,), order=1, copies=0, **{"stream.n": 2, "stream.revisit": [0]}))[2])
    assert not [event for event in events if isinstance(event, Transferred) and event.step == 2]
    assert sum(isinstance(event, Transferred) for event in events) == 2 * 3 + 4


@pytest.mark.parametrize(
    ("strategy", "changes", "sentence"),
    [
        (
            "taxonomy",
            {"stream.validation": 0.0},
            "stream.validation: the strategy 'taxonomy' decides on validation rows",
        ),
        ("taxonomy", {"order": 4}, "strategy.order: found 4; the stream has 3 tasks"),
        ("taxonomy", {"stream.n": 1}, "strategy.order: found 2; the stream has 1 tasks"),
        ("policy", {"routes": {"plain": ["permutation 1"]}}, "'plain' reads 'permutation 1', which arrives later"),
        ("policy", {"routes": {"plan": ["plain"]}}, r"no task named 'plan' \(did you mean 'plain'\?\)"),
        ("policy", {"routes": {"permutation 1": ["permutation 1"]}}, "'permutation 1' cannot read its own net"),
        ("policy", {"routes": {"permutation 1": []}}, "'permutation 1' reads no task: leave it out"),
        (
            "policy",
            {"routes": {"permutation 1": ["plain"], "permutation 2": ["permutation 1"]}},
            "reads 'permutation 1', which has a route itself",
        ),
        ("policy", {"stream.n": None}, "strategy.routes names tasks, and a stream without end"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_first_step(
    strategy: str, changes: dict[str, Any], sentence: str, tiny: Tiny, tmp_path: Path
):
    with pytest.raises(UsageError, match=sentence):
        tiny(strategy, **changes).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_experience_without_validation_rows_is_refused_whoever_hands_it_out(tiny: Tiny):
    stream, strategy, events = walk(tiny("taxonomy", (0,)))
    next(events)
    experience = replace(stream[0], validation=Data(stream[0].train.x[:0], stream[0].train.y[:0]))
    with pytest.raises(UsageError, match=r"^stream.validation: the strategy 'taxonomy' decides on validation rows"):
        next(strategy.learning(experience))


def executed(**changes: Any) -> tuple[list[Routed], list[int]]:
    """Return who read whom in a run of a policy, and how many rows came with each task."""
    options = {"routes": {"parity": ["digit"], "flip": ["digit"]}, **DIGITS, "train.epochs": 1, **changes}
    events = list(walk(Experiment.of("views_digits", "policy", (0,), **options))[2])
    return [e for e in events if isinstance(e, Routed)], [e.rows for e in events if isinstance(e, TaskStarted)]


def test_a_policy_reads_the_nets_that_it_names_and_gets_no_more_labels_than_the_stream_gives():
    routed, rows = executed(**{"stream.labelled": [400, 50, 20], "routes": {"parity": ["digit"], "flip": ["digit"]}})
    assert [(event.part, event.labels) for event in routed] == [("", 400), ("0", 50), ("0", 20)]
    assert rows == [400, 50, 20]


@pytest.mark.parametrize(
    ("control", "parts", "labels"),
    [
        ("none", ["", "0", "0"], [400, 40, 40]),
        ("random", ["", "0", "0"], [400, 40, 40]),  # the first task has nothing to read
        ("sources_random_routes", ["", "0", "0"], [400, 40, 40]),
        ("scratch", ["", "", ""], [400, 40, 40]),
        ("full", ["", "", ""], [400, 400, 400]),
    ],
)
def test_controls_stand_in_the_place_of_routes(control: str, parts: list[str], labels: list[int]):
    routed, _ = executed(control=control, labels=40, readout_epochs=2)
    assert [event.part for event in routed] == parts
    assert [event.labels for event in routed] == labels


def test_random_routes_are_of_as_many_tasks_and_sources_and_read_trained_ones_that_came_before(tiny: Tiny):
    routes = {"permutation 3": ["plain", "permutation 1"], "permutation 4": ["permutation 2"]}
    drawn = set()
    for draw in range(8):
        for control in ("random", "sources_random_routes"):
            experiment = tiny("policy", routes=routes, control=control, draw=draw, **{"stream.n": 5})
            found = experiment.build_strategy(experiment.stream())._routes  # type: ignore[attr-defined]
            assert len(found) == 2
            assert all(1 <= len(sources) <= 2 for sources in found.values())
            assert all(source < target for target, sources in found.items() for source in sources)
            assert not {source for sources in found.values() for source in sources} & set(found)
            if control == "sources_random_routes":
                assert {target: len(sources) for target, sources in found.items()} == {3: 2, 4: 1}
            drawn.add(str(found))
    assert len(drawn) > 8


def test_a_policy_without_routes_is_a_net_a_task(tiny: Tiny):
    last = {}
    for strategy in ("policy", "independent"):
        stream, learner, events = walk(tiny(strategy, **({"routes": {}} if strategy == "policy" else {})))
        list(events)
        last[strategy] = [learner.predict(stream.test(task).x, task) for task in range(3)]
    assert all(map(torch.equal, *last.values()))


@pytest.mark.parametrize(
    ("name", "options", "places", "maps"),
    [
        ("mlp", {"hidden": [6]}, False, (6, 1, 1)),
        ("small_cnn", {"width": 4, "layers": 2}, False, (4, 2, 2)),
        ("small_cnn", {"width": 4, "layers": 2}, True, (4, 2, 2)),
        ("resnet18", {"width": 2}, False, (16, 1, 1)),
        ("unet", {"width": 4, "stages": 2}, True, (4, 8, 8)),
    ],
)
def test_features_are_read_at_the_places_they_are_of(
    name: str, options: dict[str, Any], places: bool, maps: tuple[int, int, int]
):
    net = Net(net_builder(name, options, (1, 8, 8), 3, places=places), (1, 8, 8))
    readout = Readout(net, ReadoutOptions(hidden=5))
    assert readout.maps == maps
    params, x = net.init([0, 1]), net.example(3)
    features = readout.features([params, params], x)
    assert features.shape == (4, 3, maps[1] * maps[2], maps[0])
    own = {key: tensor[0] for key, tensor in params.items()}
    flat = net.features(own, x, False).reshape(3, maps[0], -1).transpose(1, 2)
    torch.testing.assert_close(features[0], flat)
    outputs = readout.answer(readout.start([0, 1], 2, "x"), features, torch.tensor([[0, 2], [1, 3]]))
    assert outputs.shape[:3] == (2, 3, 3)
    assert outputs.ndim == (5 if places else 3)


def test_outcomes_are_errors_of_classes_and_losses_of_all_else_in_whatever_pieces_they_are_measured():
    rows = 2 * ROWS_AT_ONCE + 3
    classes, numbers = Classes.of(classes=3), Numbers.of(numbers=1)
    outputs = torch.randn(2, rows, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(rows) % 3
    found = Outcomes(classes, Data(torch.arange(rows), y), lambda index: outputs[:, index])
    np.testing.assert_array_equal(found.errors, (outputs.argmax(dim=2) != y).float().numpy())
    np.testing.assert_allclose(found.losses[1], classes.losses(outputs[1], y).numpy())
    np.testing.assert_allclose(found.scores, 1 - found.errors.mean(axis=1))
    found = Outcomes(numbers, Data(torch.arange(rows), y[:, None].float()), lambda index: outputs[:, index])
    np.testing.assert_array_equal(found.errors, found.losses)


def test_sets_are_made_of_the_sources_that_lose_fewest_rows_and_never_of_the_task_itself():
    errors = np.array(
        [[0, 0, 9], [1, 1, 0], [2, 2, 1], [0, 0, 0], [3, 3, 2]]
    )  # the first is beaten in one row, by much
    assert sets_of_sources(errors, target=3, order=1, beam=2) == [(0,), (1,)]
    assert sets_of_sources(errors, target=3, order=2, beam=3) == [(0, 1), (0, 2), (1, 2)]
    assert sets_of_sources(errors, target=3, order=4, beam=3) == []


def test_likeness_is_that_of_directions_and_not_of_bases():
    draw = torch.Generator().manual_seed(0)
    features, other = (torch.randn(30, 6, generator=draw) for _ in range(2))
    turned = features @ torch.linalg.qr(torch.randn(6, 6, generator=draw)).Q
    for of_nets, (same, unlike) in {linear_cka: (1, 0.5), rsa: (1, 0.4)}.items():
        found = of_nets([features, 3 * features, turned, other])
        assert found[0, 1] == pytest.approx(same)
        assert abs(found[0, 3]) < unlike
    assert linear_cka([features, turned])[0, 1] == pytest.approx(1)


def test_labels_that_are_numbers_are_compared_by_quarters():
    values = torch.arange(100.0)[:, None]
    quarters = groups_of(Numbers.of(numbers=1), values)
    assert np.bincount(quarters).tolist() == [25] * 4
    assert shared_information(quarters, np.arange(100) // 25) == pytest.approx(1)
    assert shared_information(quarters, np.arange(100) % 2) == pytest.approx(0, abs=0.01)
    assert np.isnan(shared_information(np.zeros(5, int), np.zeros(5, int)))
