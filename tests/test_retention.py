"""Tests of a window of past tasks, and how long a task is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cl_engine.analysis.plots.plasticity import retention
from cl_engine.analysis.scores.retention import retained
from cl_engine.engine.agenda import AgendaOptions, Evaluate, plan
from cl_engine.experiment import Experiment
from cl_engine.results import open_run

TINY = Path(__file__).parent / "tiny.toml"
SMALL = {"stream.samples_per_class": 2, "train.epochs": 1, "agenda.evaluate_ahead": 0}


def asked(n: int, **options: int) -> list[list[int]]:
    stream = Experiment.of(TINY, "finetune", **{"stream.n": n}).stream()
    items = plan(stream, AgendaOptions(**options))
    return [list(item.task_ids) for item in items if isinstance(item, Evaluate)]


def test_a_window_tests_the_last_tasks_met_and_at_the_end_all():
    assert asked(5, window=2) == [[0], [0, 1], [1, 2], [2, 3], [0, 1, 2, 3, 4]]
    assert asked(5, window=2, evaluate_every=2) == [[0], [0, 1], [2], [2, 3], [0, 1, 2, 3, 4]]
    assert asked(4, window=1, evaluate_ahead=1)[1:4] == [[0, 1], [1, 2], [2, 3]]


def test_of_earlier_tasks_some_are_drawn_anew_each_time_and_the_same_whenever_asked():
    found = asked(40, window=3, window_sampled=2)
    assert found == asked(40, window=3, window_sampled=2)
    middle = found[10:39]
    assert all(len(tasks) == 5 and tasks[-3:] == [step - 2, step - 1, step] for step, tasks in enumerate(middle, 10))
    assert len({tuple(tasks[:2]) for tasks in middle}) > 10


def test_the_age_of_a_score_is_the_experiences_since_its_task_was_learned(tmp_path: Path):
    options = {**SMALL, "stream.n": 5, "agenda.window": 2}
    run = open_run(Experiment.of(TINY, "finetune", (0, 1), **options).run(tmp_path / "run", device="cpu"))
    ages, scores = retained(run)
    r, steps = run.results["score"].values, run.results["evaluation_step"].values
    assert ages.tolist() == [0, 1, 2, 3, 4] and steps.tolist() == [0, 1, 2, 3, 4]
    assert scores[1] == pytest.approx(np.mean([r[j + 1, j] for j in range(4)], axis=0))
    assert scores[2] == pytest.approx(r[4, 2])  # older ones were tested at the end alone
    assert retention([run]) is not None


def test_a_task_that_comes_back_is_counted_until_then(tmp_path: Path):
    options = {**SMALL, "stream.n": 2, "stream.revisit": [0]}
    run = open_run(Experiment.of(TINY, "finetune", **options).run(tmp_path / "run", device="cpu"))
    ages, scores = retained(run)
    r = run.results["score"].values
    assert ages.tolist() == [0, 1]
    assert scores[1] == pytest.approx(np.mean([r[1, 0], r[2, 1]], axis=0))
