"""What a run would take: told from a few experiences, as it grows or does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_engine import estimate
from cl_engine.engine.agenda import plan
from cl_engine.engine.loop import simulate
from cl_engine.errors import UsageError
from cl_engine.estimate import check_experiment, measured
from cl_engine.events import EpochEnded
from cl_engine.experiment import Experiment
from cl_engine.results.run import open_run
from cl_engine.runs import plugins
from cl_engine.runs.cost import Cost
from cl_engine.training.seed_group import SeedGroup

Tiny = Callable[..., Experiment]


@given(st.floats(0.01, 10), st.floats(0, 5), st.integers(3, 12), st.integers(1, 2000))
def test_a_cost_that_grows_in_a_line_is_told_exactly(first: float, more: float, tried: int, steps: int):
    cost = Cost(tuple(first + more * k for k in range(tried)), 0.0, None, growing=True)
    whole = sum(first + more * k for k in range(steps))
    assert cost.learning(steps) == pytest.approx(whole, rel=1e-6, abs=1e-6)
    assert cost.at(steps - 1) == pytest.approx(first + more * (steps - 1), rel=1e-6, abs=1e-6)


def test_a_flat_cost_is_the_mean_without_the_first_experience_in_which_much_is_set_up():
    cost = Cost((9.0, 1.0, 3.0), 0.0, None)
    assert cost.learning(100) == pytest.approx(200)
    assert Cost((9.0,), 0.0, None).learning(10) == pytest.approx(90)


def test_of_one_experience_alone_a_growing_cost_is_taken_to_be_in_proportion():
    assert Cost((2.0,), 0.0, None, growing=True).learning(10) == pytest.approx(2 * 55)


def test_joint_training_is_estimated_as_the_passes_it_really_makes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    """The clock is the rows passed over, so that the estimate can be held to what is then done."""
    experiment = tiny("joint", (0,), **{"stream.n": 30, "agenda.evaluate_every": 0})
    stream = experiment.stream()

    def rows(steps: int) -> list[int]:
        per_task = len(stream[0].train)
        walk = simulate(stream, experiment.build_strategy(stream), plan(stream, experiment.agenda))
        passes: dict[int, int] = {}
        for event in walk:
            if event.step == steps:
                break
            if isinstance(event, EpochEnded):
                passes[event.step] = passes.get(event.step, 0) + per_task * (event.step + 1)
        return list(passes.values())

    done = rows(30)
    cost = Cost(tuple(map(float, done[:4])), 0.0, None, growing=True)
    assert len(done) == 30
    assert cost.learning(30) == pytest.approx(sum(done))


def test_an_estimate_is_made_from_several_experiences_within_its_time(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    experiment = tiny("joint", (0,), **{"stream.n": 6})
    stream = experiment.stream()
    assert len(measured(stream, experiment.build_strategy(stream)).learned) == 6
    monkeypatch.setattr(estimate, "PATIENCE", 0.0)
    found = measured(stream, experiment.build_strategy(stream))
    assert len(found.learned) == 1
    assert found.test > 0


@pytest.mark.parametrize("patience", [5.0, 0.02])
def test_what_comes_before_the_end_of_the_first_step_is_no_part_of_what_an_experience_takes(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, patience: float
):
    """By a clock of its own: the first step takes an hour, as on a busy machine or a slow disk, every other one a second."""
    experiment = tiny("finetune", (0,), **{"stream.n": 2, "train.epochs": 10, "train.batch": 6})
    stream = experiment.stream()
    clock, real = [0.0], SeedGroup._step

    def step(group: SeedGroup, *arguments: object, **named: object) -> object:
        clock[0] += 1.0 if clock[0] else 3600.0
        return real(group, *arguments, **named)

    monkeypatch.setattr(SeedGroup, "_step", step)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(estimate, "PATIENCE", patience)
    cost = measured(stream, experiment.build_strategy(stream))
    steps = 10 * len(stream[0].train) / 6
    assert cost.at(0) == pytest.approx(steps, rel=0.1)


@pytest.mark.parametrize(
    ("options", "grows"), [({"block": 0}, True), ({"block": 2}, False), ({"codec": "basis"}, False)]
)
def test_check_says_that_one_autoencoder_for_all_skills_costs_more_and_more(
    tiny: Tiny, options: dict[str, object], grows: bool
):
    experiment = tiny("skill_recall", (0,), **{"stream.n": 6, **options})
    lines = dict(check_experiment(experiment, "cpu", None))
    assert ("the cost of a task grows with the number of tasks before it" in lines["time"]) == grows


def test_every_strategy_says_whether_its_cost_grows(tiny: Tiny):
    for name in plugins.names("strategies"):
        experiment = tiny(name)
        assert isinstance(experiment.build_strategy(experiment.stream()).growing, bool)


# 28 rows at the first step, 21 at the others
ODD: dict[str, Any] = {
    "stream.name": "split",
    "stream.samples_per_class": 7,
    "net.norm": "batch",
    "train.batch": 10,
    "agenda.curve_batches": 0,
}
LEFT_OVER = "of the {} rows at step 1 \\(task 1\\) batches of {} leave one over: set train.leftover = 'merge' or 'drop'"


@pytest.mark.parametrize(
    ("strategy", "batch", "rows"),
    [("finetune", 10, 21), ("independent", 10, 21), ("joint", 12, 49)],
)
def test_a_row_left_over_in_a_later_task_is_refused_before_the_first_step_where_batches_are_normalised(
    strategy: str, batch: int, rows: int, tiny: Tiny, tmp_path: Path
):
    experiment = tiny(strategy, (0,), **{**ODD, "train.batch": batch})
    with pytest.raises(UsageError, match=LEFT_OVER.format(rows, batch)):
        experiment.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=LEFT_OVER.format(rows, batch)):
        check_experiment(experiment, "cpu", None)


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("finetune", {"train.leftover": "merge"}),
        ("finetune", {"train.leftover": "drop"}),
        ("finetune", {"net.norm": "none"}),
        ("replay", {}),  # remembered rows join the one
        ("head_only", {}),  # whose statistics are not the batch's
        ("packnet", {}),  # likewise after the first task
        ("joint", {}),
    ],
)
def test_a_row_left_over_does_no_harm_where_nothing_is_normalised_over_it_alone(
    strategy: str, changes: dict[str, Any], tiny: Tiny, tmp_path: Path
):
    experiment = tiny(strategy, (0,), **{**ODD, **changes})
    assert open_run(experiment.run(tmp_path)).status == "finished"


def test_an_experience_without_rows_is_refused_before_the_first_step(tiny: Tiny):
    experiment = tiny("finetune", **{"stream.samples_per_class": 1, "stream.validation": 0.9})
    with pytest.raises(UsageError, match="no rows to learn task 0 from, at step 0"):
        experiment.build_strategy(experiment.stream())


def two_outputs() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))


def test_a_net_with_fewer_outputs_than_there_are_labels_is_refused_before_the_first_step(tiny: Tiny):
    experiment = tiny("finetune", **{"net.name": "tests.test_estimate:two_outputs"})
    with pytest.raises(UsageError, match="the net has 2 outputs, and tasks ask for 10"):
        experiment.build_strategy(experiment.stream())
