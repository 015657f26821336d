"""Replay fits the heads of the tasks it remembers rows of, and each seed remembers rows of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.events import EarlierTaskTested, EpochEnded, Event, TaskLearned, cells
from cl_engine.experiment import Experiment

Tiny = Callable[..., Experiment]
FORGETFUL = {"samples": 3, "stream.n": 5, "agenda.curve_tasks": 5, "agenda.evaluate_ahead": 0, "train.lr": 0.2}


def walked(experiment: Experiment) -> tuple[Any, list[Event]]:
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    events = simulate(stream, strategy, plan(stream, experiment.agenda), curve=experiment.curve)
    return strategy, list(events)


def of_seed(events: list[Event], place: int) -> list[Any]:
    found: list[Any] = [(e.step, e.task_id, e.n_correct[place]) for event in events for e in cells(event)]
    for event in events:
        if isinstance(event, EarlierTaskTested):
            found.append((event.step, event.task_id, event.batch, event.n_correct[place]))
        elif isinstance(event, EpochEnded):
            found.append((event.step, event.epoch, event.loss[place]))
    return found


@pytest.mark.parametrize(
    "train",
    [{"train.weight_decay": 0.1}, {"train.optimizer": "adafactor"}, {"train.optimizer": "sgd", "train.momentum": 0.9}],
    ids=lambda train: next(iter(train.values())),
)
def test_a_seed_is_the_same_within_rounding_beside_one_that_remembers_other_tasks(tiny: Tiny, train: dict[str, Any]):
    both = walked(tiny("replay", (0, 1), **FORGETFUL, **train))
    held = both[0].state["memory"]["t"]
    assert set(held[0].tolist()) != set(held[1].tolist())
    for place in (0, 1):
        alone = walked(tiny("replay", (place,), **FORGETFUL, **train))
        for one, other in zip(of_seed(both[1], place), of_seed(alone[1], 0), strict=True):
            assert one == pytest.approx(other, rel=1e-5)  # the last of the numbers is a loss, or a count


def test_the_head_of_a_task_that_is_not_remembered_stays_as_it_is_and_others_are_trained(tiny: Tiny):
    experiment = tiny("replay", (0,), **{**FORGETFUL, "train.weight_decay": 0.1})
    stream = experiment.stream()
    strategy = experiment.build_strategy(stream)
    heads, remembered = torch.empty(1, 0), set[int]()
    stayed = trained = 0
    for event in simulate(stream, strategy, plan(stream, experiment.agenda)):
        if isinstance(event, TaskLearned):
            now = strategy.state["heads"].rows.clone()
            for task in range(heads.shape[1]):
                same = torch.equal(now[:, task], heads[:, task])
                assert same == (task not in remembered)
                stayed, trained = stayed + same, trained + (not same)
            heads, remembered = now, set(strategy.state["memory"]["t"].flatten().tolist())
    assert stayed
    assert trained
