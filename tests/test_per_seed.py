"""Streams whose sequence of tasks each learner's seed decides by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_engine.data.stream import Stream
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.events import CurvePoint, Evaluated
from cl_engine.experiment import Experiment
from cl_engine.results import open_run

TINY = Path(__file__).parent / "tiny.toml"


def experiment(strategy: str = "finetune", seeds: tuple[int, ...] = (0, 1), **changes: Any) -> Experiment:
    return Experiment.of(TINY, strategy, seeds, **{"stream.per_seed": True, **changes})


def rows(stream: Stream, step: int, place: int) -> torch.Tensor:
    return stream[step].train.of(place)[0]


def test_seeds_have_permutations_of_their_own_of_inputs_that_are_held_once():
    stream = experiment(**{"stream.first_plain": False}).stream()
    assert not torch.equal(rows(stream, 0, 0), rows(stream, 0, 1))
    first, later = stream[0].train.of_seeds, stream[2].train.of_seeds
    assert first is not None and later is not None
    assert first.held.data_ptr() == later.held.data_ptr()


@pytest.mark.parametrize(
    "changes",
    [
        {"stream.name": "label_permuted"},
        {"stream.name": "random_labels"},
        {"stream.name": "pairs"},
        {"stream.name": "split", "stream.class_order": 1},
        {"stream.name": "rotated", "stream.spread": False, "stream.n": 3},
    ],
    ids=lambda changes: changes["stream.name"],
)
def test_seeds_differ_in_all_that_the_seed_of_a_stream_decides(changes: dict[str, Any]):
    stream = experiment(**{"stream.n": 3, **changes}).stream()
    (x, y), (other_x, other_y) = (stream[1].train.of(place) for place in (0, 1))
    assert not (torch.equal(x, other_x) and torch.equal(y, other_y))


def test_another_seed_of_the_stream_changes_the_tasks_of_every_learner():
    one, other = (experiment(**{"stream.seed": seed}).stream() for seed in (0, 1))
    assert not torch.equal(rows(one, 1, 0), rows(other, 1, 0))


def test_the_test_in_the_middle_of_learning_is_on_rows_of_each_seed():
    made = experiment(seeds=(0, 1, 2), **{"agenda.curve_epochs": 1})
    stream = made.stream()
    strategy = made.build_strategy(stream)
    events = list(simulate(stream, strategy, plan(stream, made.agenda), curve=made.curve))
    last = {event.task_id: event.score for event in events if isinstance(event, CurvePoint)}
    tested = {
        event.task_id: event.score for event in events if isinstance(event, Evaluated) and event.step == event.task_id
    }
    assert last.keys() == tested.keys() and last == tested


def test_the_run_of_one_seed_is_that_of_the_seed_beside_another(tmp_path: Path):
    together = open_run(experiment().run(tmp_path / "together", device="cpu"))
    alone = open_run(experiment(seeds=(1,)).run(tmp_path / "alone", device="cpu"))
    ours, theirs = (run.results["accuracy"].values for run in (together, alone))
    np.testing.assert_array_equal(ours[..., 1], theirs[..., 0])


def test_validation_rows_are_tested_of_each_seed_its_own(tmp_path: Path):
    told = {}
    for seeds in ((1,), (0, 1)):
        made = experiment("independent", seeds, **{"stream.validation": 0.25, "stream.first_plain": False})
        events = open_run(made.run(tmp_path / str(len(seeds)), device="cpu")).table("events")
        of_one = events[(events["kind"] == "HeldOutTested") & (events["seed"] == 1)]
        told[len(seeds)] = of_one["value"].to_numpy()
    assert len(told[1]) and np.allclose(told[1], told[2], atol=1e-4)


def test_tasks_of_different_size_are_refused_before_the_first_step():
    with pytest.raises(UsageError, match=r"stream.per_seed: task 0 has \d+ rows for one seed and \d+ for another"):
        experiment(**{"stream.name": "pairs", "stream.samples_per_class": None}).stream()


def test_a_strategy_that_gives_all_seeds_the_same_rows_is_refused_before_the_first_step():
    made = experiment("joint")
    with pytest.raises(UsageError, match="'joint' learns all seeds from the same rows"):
        made.build_strategy(made.stream())
