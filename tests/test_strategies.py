"""The contract that every strategy keeps, whichever it is: found by folder, not named here."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.checkpoints import store as checkpoint_store
from cl_engine.checkpoints.file import load
from cl_engine.checkpoints.store import Store
from cl_engine.core.bank import Bank
from cl_engine.core.state import bytes_by_part, check_state
from cl_engine.core.tree import leaves_with_path
from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded, Event, Progress, Saved, TaskLearned
from cl_engine.experiment import Experiment
from cl_engine.runs import plugins
from cl_engine.strategy import Strategy
from tests.conftest import SETTINGS, STRATEGIES, STRATEGIES_IN_SETTINGS, assert_same_facts, facts

GOLDEN = Path(__file__).parent / "golden"
Tiny = Callable[..., Experiment]
in_every_setting = pytest.mark.parametrize(("name", "setting"), STRATEGIES_IN_SETTINGS)
every_strategy = pytest.mark.parametrize("name", STRATEGIES)


@pytest.fixture(autouse=True)
def _same_global_random_state() -> Iterator[None]:
    """Fail a test after which torch's global generator has moved: randomness is derived, never drawn from it."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())


def walk(experiment: Experiment) -> tuple[Stream, Strategy, Iterator[Event]]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    return stream, strategy, simulate(stream, strategy, plan(stream, experiment.agenda))


def after_each_task(experiment: Experiment) -> Iterator[tuple[Stream, Strategy]]:
    stream, strategy, events = walk(experiment)
    for event in events:
        if isinstance(event, TaskLearned):
            yield stream, strategy


def told(stream: Stream, task: int) -> int | None:
    return task if stream.setting == "task" else None


def answers(stream: Stream, strategy: Strategy, task: int) -> torch.Tensor:
    return strategy.predict(stream.test(task).x, told(stream, task))


@in_every_setting
def test_answers_are_finite_logits_for_every_seed_also_for_tasks_not_yet_met(tiny: Tiny, name: str, setting: str):
    for stream, strategy in after_each_task(tiny(name, **{"stream.setting": setting})):
        for task in range(3):
            logits = answers(stream, strategy, task)
            assert logits.shape == (2, len(stream.test(task)), stream.outputs)
            assert logits.isfinite().all()


@in_every_setting
def test_predicting_changes_nothing_and_gives_the_same_again(tiny: Tiny, name: str, setting: str):
    for stream, strategy in after_each_task(tiny(name, **{"stream.setting": setting})):
        before = {
            path: leaf.rows.clone() if isinstance(leaf, Bank) else copy.copy(leaf)
            for path, leaf in leaves_with_path(strategy.state)
        }
        first, again = answers(stream, strategy, 0), answers(stream, strategy, 0)
        assert torch.equal(first, again)
        for path, leaf in leaves_with_path(strategy.state):
            now = leaf.rows if isinstance(leaf, Bank) else leaf
            assert torch.equal(before[path], now) if isinstance(now, torch.Tensor) else before[path] == now


@in_every_setting
def test_the_same_fingerprint_promises_the_same_answers(tiny: Tiny, name: str, setting: str):
    seen: dict[tuple[int, int], torch.Tensor] = {}
    experiment = tiny(name, **{"stream.setting": setting, "stream.revisit": [0]})
    for stream, strategy in after_each_task(experiment):
        for task in range(3):
            fingerprint = strategy.fingerprint(told(stream, task))
            if fingerprint is None:
                continue
            logits = answers(stream, strategy, task)
            assert torch.equal(seen.setdefault((task, fingerprint), logits), logits)


@in_every_setting
def test_saving_and_loading_the_state_gives_the_same_state_and_answers(
    tiny: Tiny, name: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint_store, "SMALL", 1)
    monkeypatch.setattr(checkpoint_store, "LARGE", 1)  # every row changed, and none other, is written again
    store = Store(tmp_path / "state")
    for stream, strategy in after_each_task(tiny(name, **{"stream.setting": setting, "stream.revisit": [0]})):
        store.save(strategy.state)
        before = [answers(stream, strategy, task) for task in range(3)]
        found = load(tmp_path / "state")
        for (path, saved), (place, leaf) in zip(
            sorted(leaves_with_path(strategy.state)), sorted(leaves_with_path(found)), strict=True
        ):
            assert path == place
            now = leaf.rows if isinstance(leaf, Bank) else leaf
            held = saved.rows if isinstance(saved, Bank) else saved
            assert torch.equal(held, now) if isinstance(now, torch.Tensor) else held == now
        mine, strategy.state = strategy.state, found
        for task, logits in enumerate(before):
            assert torch.equal(logits, answers(stream, strategy, task))
        strategy.state = mine


@in_every_setting
def test_a_seed_learns_the_same_alone_as_beside_others(tiny: Tiny, name: str, setting: str):
    alone = [
        answers(stream, strategy, 0)
        for stream, strategy in after_each_task(tiny(name, (7,), **{"stream.setting": setting}))
    ]
    among = [
        answers(stream, strategy, 0)
        for stream, strategy in after_each_task(tiny(name, (3, 7, 5), **{"stream.setting": setting}))
    ]
    for one, several in zip(alone, among, strict=True):
        torch.testing.assert_close(one[0], several[1], rtol=1e-3, atol=1e-3)


@in_every_setting
def test_a_cut_after_any_event_and_a_resume_give_the_same_log(tiny: Tiny, name: str, setting: str, tmp_path: Path):
    class Cut(BaseException):
        pass

    experiment = tiny(name, **{"stream.setting": setting, "agenda.save_every": 2})
    whole = facts(experiment.run(tmp_path / "whole") / "log.h5")
    count = sum(1 for event in walk_saving(experiment, tmp_path) if not isinstance(event, Progress))
    stride = 1 if setting == experiment.resolved["stream"]["setting"] == "task" else 7
    for cut in range(1, count, stride):
        heard = 0

        def cutting(event: Event, cut: int = cut) -> None:
            nonlocal heard
            heard += not isinstance(event, Progress)
            if heard == cut:
                raise Cut

        with pytest.raises(Cut):
            experiment.run(tmp_path / f"cut {cut}", listeners=lambda stream: [cutting])
        assert_same_facts(facts(experiment.run(tmp_path / f"cut {cut}") / "log.h5"), whole)


@every_strategy
@pytest.mark.parametrize("curves", [0, 1])
def test_a_cut_in_the_middle_of_an_experience_goes_on_from_the_last_pass_saved(
    tiny: Tiny, name: str, curves: int, tmp_path: Path
):
    class Cut(BaseException):
        pass

    setting = plugins.load("strategies", name).settings[-1]
    often = {"agenda.save_every_epochs": 1, "agenda.save_every": 2, "agenda.curve_batches": curves, "train.epochs": 3}
    experiment = tiny(name, **{"stream.setting": setting, "stream.n": 2, "agenda.curve_tasks": curves, **often})
    whole = facts(experiment.run(tmp_path / "whole") / "log.h5")
    saved, passes, kills = 0, [0], 0

    def cutting(event: Event) -> None:
        nonlocal saved
        passes[-1] += isinstance(event, EpochEnded)
        if isinstance(event, Saved) and event.midway:
            saved += 1
            if saved % 3 == 2:
                raise Cut

    while True:
        try:
            experiment.run(tmp_path / "cut", listeners=lambda stream: [cutting])
            break
        except Cut:
            kills += 1
            passes.append(0)
            assert kills < 10, f"passes made between two kills: {passes}"
    assert kills or curves  # fits whose strategy reads the tests in their middle are run anew
    assert_same_facts(facts(tmp_path / "cut" / "log.h5"), whole)


def walk_saving(experiment: Experiment, folder: Path) -> Iterator[Event]:
    stream = experiment.stream()
    agenda = plan(stream, experiment.agenda)
    strategy = experiment.build_strategy(stream)
    return simulate(stream, strategy, agenda, save_to=folder / "counted", curve=experiment.curve)


@every_strategy
def test_seeds_learn_the_same_in_processes_of_their_own(tiny: Tiny, name: str, request: pytest.FixtureRequest):
    """One thread each either way, so bit for bit."""
    overrides = {"net.hidden": [64, 64, 64], "agenda.curve_epochs": 1}  # too large to run as one vmap

    def traces() -> list[Any]:
        events = walk(tiny(name, **overrides))[2]
        return [line for event in events if not isinstance(event, Progress) for line in traced(event)]

    in_turn = traces()
    request.getfixturevalue("forking")
    assert traces() == in_turn


@in_every_setting
def test_a_rowwise_strategy_answers_a_row_the_same_whatever_is_beside_it(tiny: Tiny, name: str, setting: str):
    for stream, strategy in after_each_task(tiny(name, **{"stream.setting": setting})):
        if setting == "task" or not strategy.rowwise:
            continue
        parts = [stream.test(task).x for task in range(3)]
        apart = torch.cat([strategy.predict(x, None) for x in parts], dim=1)
        torch.testing.assert_close(strategy.predict(torch.cat(parts), None), apart)


@in_every_setting
def test_the_trace_of_events_is_the_one_on_file(tiny: Tiny, name: str, setting: str):
    trace = [line for event in walk(tiny(name, **{"stream.setting": setting}))[2] for line in traced(event)]
    path = GOLDEN / f"{name}-{setting}.json"
    if os.environ.get("CL_UPDATE_GOLDEN") or not path.exists():
        assert not os.environ.get("CI"), f"there is no trace on file: {path}"
        path.parent.mkdir(exist_ok=True)
        path.write_text("[\n" + ",\n".join(json.dumps(line) for line in trace) + "\n]\n")
    assert [renamed(line) for line in json.loads(path.read_text())] == json.loads(json.dumps(trace))


def renamed(line: list[Any]) -> list[Any]:
    """Return a line of a trace with the names that events and fields have had since it was recorded."""
    kind, values = line
    kinds, fields_ = {"Unchanged": "ScoresReused", "EarlierTested": "EarlierTaskTested"}, {"place": "cursor"}
    return [kinds.get(kind, kind), {fields_.get(name, name): value for name, value in values.items()}]


def traced(event: Event) -> list[list[Any]]:
    """Return an event's exact facts: kind and integers, but not what rounding may change from machine to machine."""
    if isinstance(event, Progress):
        return []
    inexact = {"n_correct", "loss", "acc", "bwt", "fwt", "forgetting"}
    names = [f.name for f in fields(event) if f.compare and f.name not in inexact]
    values = {name: getattr(event, name) for name in names}
    exact = {name: value for name, value in values.items() if not _holds_floats(value)}
    return [[type(event).__name__, {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in exact.items()}]]


def _holds_floats(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, tuple) and any(isinstance(v, float) for v in value))


@every_strategy
def test_the_memory_reported_is_the_bytes_of_the_state_one_seed_holds(tiny: Tiny, name: str):
    for _, strategy in after_each_task(tiny(name, (0, 1, 2))):
        check_state(strategy.state, 3, name)
        total = 0
        for _, leaf in leaves_with_path(strategy.state):
            tensor = leaf.rows if isinstance(leaf, Bank) else leaf
            if isinstance(tensor, torch.Tensor):
                total += tensor.numel() * tensor.element_size() // len(tensor)
            else:
                total += 8
        assert sum(bytes_by_part(strategy.state).values()) == total


@every_strategy
def test_it_runs_with_batchnorm_and_dropout(tiny: Tiny, name: str):
    for net in ("tests.nets_of_users:with_batchnorm", "tests.nets_of_users:with_dropout"):
        for stream, strategy in after_each_task(tiny(name, **{"net.name": net, "net.hidden": 8})):
            assert answers(stream, strategy, 0).isfinite().all()


@every_strategy
def test_it_learns_with_products_in_bfloat16(tiny: Tiny, name: str):
    for stream, strategy in after_each_task(tiny(name, **{"train.precision": "bfloat16", "stream.n": 2})):
        assert answers(stream, strategy, 0).dtype == torch.float32


@every_strategy
def test_it_learns_from_images_that_are_moved_and_mirrored(tiny: Tiny, name: str):
    def answers(**overrides: Any) -> torch.Tensor:
        *_, (stream, strategy) = after_each_task(tiny(name, (0, 1), **overrides))
        return strategy.predict(stream.test(0).x, told(stream, 0))

    moved = answers(**{"train.crop": 1, "train.flip": 0.5})
    assert bool(moved.isfinite().all())
    assert not torch.allclose(moved, answers())


@every_strategy
def test_every_option_says_what_it_means(name: str):
    kind = plugins.load("strategies", name)
    assert all(info.description for info in kind.Options.model_fields.values())
    assert len((kind.__doc__ or "").splitlines()[0]) > 20


@every_strategy
def test_a_setting_it_cannot_serve_is_refused_in_a_sentence(tiny: Tiny, name: str):
    for setting in set(SETTINGS) - set(plugins.load("strategies", name).settings):
        experiment = tiny(name, **{"stream.setting": setting})
        with pytest.raises(UsageError, match="must be told the task"):
            experiment.build_strategy(experiment.stream())
    with pytest.raises(UsageError, match="no option named 'nonsense'"):
        plugins.load("strategies", name)(None, nonsense=1)


@every_strategy
def test_no_strategy_subclasses_another(name: str):
    assert plugins.load("strategies", name).__bases__ == (Strategy,)
