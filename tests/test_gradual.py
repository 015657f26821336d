"""Streams whose tasks turn into each other by and by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cl_engine.data.stream import Stream
from cl_engine.errors import UsageError
from cl_engine.experiment import Experiment
from cl_engine.results import open_run

TINY = Path(__file__).parent / "tiny.toml"


def experiment(seeds: tuple[int, ...] = (0,), **changes: Any) -> Experiment:
    options = {"stream.setting": "domain", "stream.gradual": 3, "stream.same_rows": True, **changes}
    return Experiment.of(TINY, "finetune", seeds, **options)


def shares(stream: Stream, steps: range) -> list[float]:
    """Return which share of the rows of each step are rows of the last of them."""
    last = {tuple(row.flatten().tolist()) for row in stream[steps[-1]].train.x}
    return [
        sum(tuple(row.flatten().tolist()) in last for row in stream[step].train.x) / len(stream[step].train)
        for step in steps
    ]


def test_rows_of_the_task_to_come_are_more_and_more():
    stream = experiment().stream()
    assert stream.n_steps == 9 and [stream.task_id(step) for step in range(9)] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert shares(stream, range(5)) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_inputs_are_means_of_how_both_tasks_show_them():
    stream = experiment(**{"stream.gradual_by": "inputs", "stream.gradual": 1}).stream()
    before, between, after = (stream[step].train for step in range(3))
    assert torch.equal(between.y, after.y) and between.x.dtype == after.x.dtype
    wanted = (before.x.float() + after.x.float()) / 2
    assert float((between.x.float() - wanted).abs().max()) <= 0.5


def test_labels_are_of_either_task():
    options = {"stream.name": "random_labels", "stream.gradual_by": "labels", "stream.gradual": 1}
    stream = experiment(**options).stream()
    before, between, after = (stream[step].train for step in range(3))
    assert torch.equal(between.x, after.x)
    old, new = between.y == before.y, between.y == after.y
    assert (old | new).all() and not old.all() and not new.all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stream.setting": "task"}, "use domain or class"),
        ({"stream.gradual_by": "labels"}, "needs inputs that are the same in both tasks"),
        ({"stream.name": "random_labels", "stream.gradual_by": "inputs"}, "needs rows whose labels are the same"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_a_sentence(changes: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        experiment(**changes).stream()


def test_seeds_with_tasks_of_their_own_meet_them_by_and_by(tmp_path: Path):
    options = {"stream.per_seed": True, "stream.gradual": 1, "agenda.online": True}
    together = open_run(experiment((0, 1), **options).run(tmp_path / "together", device="cpu"))
    alone = open_run(experiment((1,), **options).run(tmp_path / "alone", device="cpu"))
    assert together.results.sizes["experience"] == 5
    ours, theirs = (run.results["accuracy"].values for run in (together, alone))
    assert ours.shape[0] == theirs.shape[0]
    assert experiment((0, 1), **options).stream()[1].train.of_seeds is not None


def test_without_it_an_experiment_is_the_one_it_was():
    plain = Experiment.of(TINY, "finetune")
    assert "gradual" not in plain.json and "per_seed" not in plain.json
