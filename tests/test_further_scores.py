"""Scores that are not logged: small cases worked by hand, and what logs give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.analysis.scores import log_scores
from cl_engine.analysis.scores.measures import MEASURES, measured
from cl_engine.analysis.scores.run_scores import summarised
from cl_engine.experiment import Experiment
from cl_engine.metrics import lifelong, matrix_scores, stability
from cl_engine.results.run import Run, open_run
from cl_engine.testing.logs import facts
from tests.conftest import TINY, old_log

NAN = float("nan")
# rows: untrained, after task 0, after task 1, after task 2
R = np.array([[0.1, 0.2, 0.1], [0.9, 0.3, 0.2], [0.6, 0.8, 0.4], [0.5, 0.9, 0.7]])
STEPS, LEARNED = [-1, 0, 1, 2], [0, 1, 2]
MIDWAY = {"agenda.curve_batches": 3, "agenda.curve_epochs": 1, "agenda.curve_tasks": 3}


def test_the_worst_moment_counts_not_the_last():
    courses = [np.array([0.9, 0.2, 0.7]), np.array([0.6, 0.8])]
    assert stability.min_acc(courses) == pytest.approx((0.2 + 0.6) / 2)
    assert stability.wc_acc(0.95, courses) == pytest.approx(0.95 / 3 + 2 / 3 * 0.4)
    assert stability.wc_acc(0.95, []) == 0.95
    assert math.isnan(stability.min_acc([]))
    assert math.isnan(stability.min_acc([np.array([0.9]), np.array([])]))


def test_windows_see_drops_and_gains_between_tests_that_are_near():
    course = np.array([0.9, 0.5, 0.8, 0.7, 0.2])
    assert stability.windowed_forgetting([course], 2) == pytest.approx(0.5)
    assert stability.windowed_forgetting([course], 3) == pytest.approx(0.6)
    assert stability.windowed_forgetting([course], 9) == pytest.approx(0.7)
    assert stability.windowed_plasticity([course], 9) == pytest.approx(0.3)
    assert stability.windowed_forgetting([course, np.array([0.1, 0.2])], 9) == pytest.approx(0.7 / 2)
    assert stability.windowed_forgetting([np.array([0.9])], 9) == 0.0  # as released: one test is no drop
    assert math.isnan(stability.windowed_forgetting([], 9))


def test_a_task_that_only_gains_has_forgotten_nothing_and_one_that_only_drops_has_gained_nothing():
    assert stability.windowed_forgetting([np.array([0.1, 0.4, 0.9])], 9) == 0.0
    assert stability.windowed_plasticity([np.array([0.9, 0.4, 0.1])], 9) == 0.0
    by_seed = stability.windowed_plasticity([np.array([[0.1, 0.9], [0.4, 0.1]])], 2)
    assert by_seed == pytest.approx([0.3, 0.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(2, 12))
@settings(deadline=None)
def test_windows_are_those_of_a_queue_of_the_latest_tests_that_remembers_its_largest_change(
    course: list[float], window: int
):
    drop = gain = 0.0
    for end in range(
        len(course)
    ):  # the authors' released code: a queue after each iteration, and what was largest so far
        queue = course[max(0, end + 1 - window) : end + 1]
        pairs = [(queue[a], queue[b]) for a in range(len(queue)) for b in range(a + 1, len(queue))]
        drop = max([drop, *(one - other for one, other in pairs)])
        gain = max([gain, *(other - one for one, other in pairs)])
    values = [np.array(course)]
    assert stability.windowed_forgetting(values, window) == pytest.approx(drop)
    assert stability.windowed_plasticity(values, window) == pytest.approx(gain)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.integers(2, 12))
@settings(deadline=None)
def test_a_wider_window_sees_no_less(course: list[float], window: int):
    values = [np.array(course)]
    assert stability.windowed_forgetting(values, window + 1) >= stability.windowed_forgetting(values, window)
    turned = [np.array(course)[::-1]]
    assert stability.windowed_plasticity(turned, window) == pytest.approx(stability.windowed_forgetting(values, window))


def test_maintenance_is_against_the_first_test_after_the_latest_training():
    # task 0: 0.6 − 0.9 and 0.5 − 0.9; task 1: 0.9 − 0.8; task 2 has no later test
    assert lifelong.performance_maintenance(R, STEPS, [0, 1, 2]) == pytest.approx(((-0.3 - 0.4) / 2 + 0.1) / 2)
    back = np.array([[0.9, NAN], [0.5, 0.8], [0.7, 0.6], [0.6, 0.9]])  # task 0 comes back at the third experience
    assert lifelong.performance_maintenance(back, [0, 1, 2, 3], [0, 1, 0, 1]) == pytest.approx(
        ((0.5 - 0.9 + 0.6 - 0.7) / 2 + (0.6 - 0.8)) / 2
    )
    assert math.isnan(lifelong.performance_maintenance(R[:2, :1], [-1, 0], [0]))


def test_backward_transfer_over_all_rows_and_remembering():
    cells = [0.6 - 0.9, 0.5 - 0.9, 0.9 - 0.8]
    assert lifelong.backward_transfer_all(R, STEPS, LEARNED) == pytest.approx(sum(cells) / 3)
    assert lifelong.remembering(R, STEPS, LEARNED) == pytest.approx(1 - 0.2)
    better = np.array([[0.1, 0.1, 0.1], [0.5, 0.3, 0.2], [0.6, 0.6, 0.4], [0.7, 0.7, 0.7]])
    assert lifelong.remembering(better, STEPS, LEARNED) == 1.0
    gap = R.copy()
    gap[2, 0] = NAN
    assert math.isnan(lifelong.remembering(gap, STEPS, LEARNED))
    assert math.isnan(lifelong.remembering(R[:2, :1], [-1, 0], [0]))


def test_the_transfer_matrix_is_the_contrast_of_the_tests_around_an_experience():
    found = lifelong.transfer_matrix(R, STEPS)
    assert found.shape == (3, 3)
    assert found[0] == pytest.approx([(0.9 - 0.1) / 1.0, (0.3 - 0.2) / 0.5, (0.2 - 0.1) / 0.3])
    assert found[1, 0] == pytest.approx((0.6 - 0.9) / 1.5)
    assert lifelong.transfer_matrix(R, STEPS, normalised=False)[2] == pytest.approx([-0.1, 0.1, 0.3])
    never = np.array([[0.0], [0.0], [0.5]])
    assert np.isnan(lifelong.transfer_matrix(never, [-1, 0, 1])[0]).all()
    assert lifelong.transfer_matrix(never, [-1, 0, 1])[1] == pytest.approx(1.0)
    assert np.isnan(lifelong.transfer_matrix(R[1:], STEPS[1:])[0]).all()


def test_tasks_that_come_into_view_one_by_one_have_their_untrained_test():
    nothing = float("nan")
    rows = np.array([[0.1, nothing], [nothing, 0.2], [0.9, 0.4]])
    found = lifelong.transfer_matrix(rows, [-1, -1, 0], normalised=False)
    assert found[0] == pytest.approx([0.8, 0.2])


def test_against_an_expert_level_and_speed_count():
    own, expert = np.array([0.1, 0.4, 0.7]), np.array([0.1, 0.2, 0.5, 0.9])
    assert lifelong.relative_performance(own, expert) == pytest.approx(1.2 / 0.8)
    assert lifelong.saturation(expert) == (0.9, 3)
    assert lifelong.sample_efficiency(own, expert) == pytest.approx(0.7 / 0.9 * 3 / 2)
    assert math.isnan(lifelong.sample_efficiency(np.array([0.9, 0.5]), expert))
    assert math.isnan(lifelong.relative_performance(own, np.zeros(3)))


def test_sample_efficiency_leaves_out_and_zeroes_what_l2metrics_does():
    rising = np.array([0.1, 0.4, 0.7])
    assert math.isnan(
        lifelong.sample_efficiency(rising, np.array([0.9, 0.5, 0.4]))
    )  # the expert peaks at its first point
    assert math.isnan(lifelong.sample_efficiency(np.array([0.9, 0.5, 0.4]), rising))
    assert lifelong.sample_efficiency(np.array([0.6, 0.7, 0.1]), rising) == 0.0  # highest later, and yet it falls
    assert lifelong.sample_efficiency(np.array([0.01, 0.02, 0.1]), rising) == 0.0  # below a fifth of the expert's level
    assert lifelong.sample_efficiency(np.array([0.1, 0.5, 0.1]), rising) == pytest.approx(0.5 / 0.7 * 2 / 1)


def test_long_curves_are_smoothed_before_their_maximum_is_sought():
    curve = np.concatenate([np.linspace(0, 0.8, 20), np.full(20, 0.8)])
    curve[5] = 1.0  # one lucky test is no saturation
    level, at = lifelong.saturation(curve)
    assert level == pytest.approx(0.8)
    assert at >= 20


def test_seeds_are_kept_as_further_axes():
    both = np.stack([R, R[:, :] / 2], axis=-1)
    for score in (
        lifelong.performance_maintenance(both, STEPS, [0, 1, 2]),
        lifelong.remembering(both, STEPS, LEARNED),
    ):
        assert score.shape == (2,)
    assert lifelong.transfer_matrix(both, STEPS).shape == (3, 3, 2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    names = ("finetune", "replay", "piggyback", "independent")
    return {name: open_run(Experiment.of(TINY, name, (0, 1), **MIDWAY).run(folder / name)) for name in names}


def test_earlier_tasks_are_tested_wherever_the_current_one_is(runs: dict[str, Run]):
    for run in runs.values():
        curves, earlier = run.table("curves"), run.table("stability")
        points = set(zip(curves["step"], curves["batch"], strict=True))
        for step in (1, 2):
            for task in range(step):
                held = earlier[(earlier["step"] == step) & (earlier["task"] == task) & (earlier["seed"] == 0)]
                assert {(step, batch) for batch in held["batch"]} == {point for point in points if point[0] == step}
        assert (earlier["task"] < earlier["step"]).all()


def test_before_the_first_and_after_the_last_batch_the_answers_are_those_of_the_matrix(runs: dict[str, Run]):
    for name in ("finetune", "replay", "piggyback"):
        run = runs[name]
        table, correct = run.table("stability"), run.results["n_correct"].values
        for (step, task, seed), rows in table.groupby(["step", "task", "seed"]):
            ordered = rows.sort_values("batch")["n_correct"].tolist()
            assert ordered[0] == correct[step, task, seed], name  # the row after the experience before
            assert ordered[-1] == correct[step + 1, task, seed], name


def test_looking_at_earlier_tasks_changes_nothing_that_is_learned(runs: dict[str, Run], tmp_path: Path):
    plain = Experiment.of(TINY, "replay", (0, 1), **{**MIDWAY, "agenda.curve_tasks": 0}).run(tmp_path)
    one, other = facts(runs["replay"].path), facts(plain / "log.h5")
    for name in one:
        if not name.startswith(("stability/", "environment/")):
            assert np.array_equal(one[name], other[name], equal_nan=np.asarray(one[name]).dtype.kind == "f"), name


def test_a_course_begins_right_after_learning_and_ends_at_the_end(runs: dict[str, Run]):
    run = runs["finetune"]
    values, held = run.results["accuracy"].values, log_scores.courses(run)
    for task in range(3):
        np.testing.assert_allclose(held[task][0], values[1 + task, task], atol=1e-6)
        np.testing.assert_allclose(held[task][-1], values[-1, task], atol=1e-6)
    assert len(held[0]) > len(held[1]) > len(held[2]) == 1


def test_the_worst_case_is_no_better_than_the_end(runs: dict[str, Run]):
    for name in ("finetune", "replay", "piggyback"):
        run = runs[name]
        assert (log_scores.wc_acc(run).values <= summarised(run).acc.values + 1e-6).all()
        assert (log_scores.windowed_forgetting(run).values >= 0).all()


def test_windows_follow_every_task_from_before_its_first_batch_and_the_last_one_too(runs: dict[str, Run]):
    run = runs["finetune"]
    curves, earlier, matrix = run.table("curves"), run.table("stability"), run.results["accuracy"].values
    gains = []
    for task in range(3):
        tests: dict[tuple[int, float], np.ndarray] = {}
        for table in (curves, earlier):
            for (step, batch), rows in table[table["task"] == task].sort_values("seed").groupby(["step", "batch"]):
                tests[step, batch] = (rows["n_correct"] / rows["n_total"]).to_numpy()
        tests |= {(step, math.inf): matrix[step + 1, task] for step in range(task, 3)}
        course = [tests[key] for key in sorted(tests)]
        assert min(tests) == (task, 0)
        pairs = [(a, b) for a in range(len(course)) for b in range(a + 1, min(a + 10, len(course)))]
        gains.append(np.max([np.zeros(2), *(course[b] - course[a] for a, b in pairs)], axis=0))
    assert log_scores.windowed_plasticity(run).values == pytest.approx(np.mean(gains, axis=0))
    assert (log_scores.windowed_plasticity(run).values > 0).all()


def test_isolated_parameters_have_no_gap(runs: dict[str, Run]):
    run = runs["independent"]
    for course in log_scores.courses(run).values():
        assert stability.windowed_forgetting([course], 10) == pytest.approx([0.0, 0.0])
    assert log_scores.wc_acc(run).values == pytest.approx(summarised(run).acc.values)
    assert log_scores.performance_maintenance(run).values == pytest.approx([0.0, 0.0])
    assert log_scores.remembering(run).values == pytest.approx([1.0, 1.0])


def test_an_expert_is_as_good_as_itself(runs: dict[str, Run]):
    expert = runs["independent"]
    assert log_scores.relative_performance(expert, [expert]).values == pytest.approx([1.0, 1.0])
    assert np.isnan(log_scores.relative_performance(expert, []).values).all()
    efficiency = log_scores.sample_efficiency(expert, [expert]).values
    assert efficiency[np.isfinite(efficiency)] == pytest.approx(1.0)


def test_logs_without_tests_midway_have_no_worst_case_and_say_so_by_nan(tmp_path: Path):
    run = open_run(old_log("1.1", tmp_path))
    assert np.isnan(log_scores.wc_acc(run).values).all()
    assert np.isnan(log_scores.min_acc(run).values).all()
    assert np.isfinite(log_scores.performance_maintenance(run).values).all()


def test_every_measure_is_a_number_a_seed(runs: dict[str, Run]):
    found = measured(runs["replay"], list(MEASURES), list(runs.values()))
    assert {values.shape for values in found.values()} == {(2,)}
    learned = matrix_scores.learning_accuracy(
        runs["replay"].results["accuracy"].values, [-1, 0, 1, 2], runs["replay"].learned
    )
    assert found["learning_accuracy"] == pytest.approx(learned)
