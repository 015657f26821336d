"""The scores against small matrices worked by hand, and the running ledger against the closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.core.measure import Measure
from cl_engine.metrics import matrix_scores
from cl_engine.metrics.running import SCORES, Ledger, ScoreCache

NAN = float("nan")
# rows: untrained, after task 0, after task 1, after task 2
R = np.array([[0.1, 0.2, 0.1], [0.9, 0.3, 0.2], [0.6, 0.8, 0.4], [0.5, 0.9, 0.7]])
STEPS, LEARNED = [-1, 0, 1, 2], [0, 1, 2]


def test_acc_is_the_mean_over_the_tasks_met_so_far():
    found = matrix_scores.acc(R, STEPS, LEARNED)
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.9, 0.7, 0.7])


def test_bwt_divides_by_the_number_of_earlier_tasks():
    found = matrix_scores.bwt(R, STEPS, LEARNED)
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(0.6 - 0.9)
    assert found[3] == pytest.approx(((0.5 - 0.9) + (0.9 - 0.8)) / 2)


def test_fwt_compares_with_the_untrained_learner():
    found = matrix_scores.fwt(R, STEPS, LEARNED)
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(0.3 - 0.2)
    assert found[3] == pytest.approx(((0.3 - 0.2) + (0.4 - 0.1)) / 2)


def test_forgetting_takes_the_best_earlier_accuracy_and_can_be_negative():
    found = matrix_scores.forgetting(R, STEPS, LEARNED)
    assert found[2] == pytest.approx(0.9 - 0.6)
    assert found[3] == pytest.approx(((0.9 - 0.5) + (0.8 - 0.9)) / 2)


def test_the_diagonal_learning_accuracy_transfer_and_intransigence():
    assert matrix_scores.diagonal(R, STEPS, LEARNED) == pytest.approx([0.9, 0.8, 0.7])
    assert matrix_scores.learning_accuracy(R, STEPS, LEARNED) == pytest.approx(0.8)
    assert matrix_scores.transfer(R, [0.8, 0.8, 0.8], STEPS, LEARNED) == pytest.approx([0.1, 0.0, -0.1])
    assert matrix_scores.intransigence(R, [1.0, 0.9, 0.6], STEPS, LEARNED) == pytest.approx([0.1, 0.1, -0.1])


def test_a_single_task_has_accuracy_but_no_transfer_and_no_forgetting():
    one = np.array([[0.1], [0.9]])
    assert matrix_scores.acc(one, [-1, 0], [0])[1] == 0.9
    for score in (matrix_scores.bwt, matrix_scores.fwt, matrix_scores.forgetting):
        assert np.isnan(score(one, [-1, 0], [0])).all()


def test_a_cell_not_measured_makes_a_score_undefined_never_zero():
    gap = R.copy()
    gap[3, 0] = NAN
    for score in (matrix_scores.acc, matrix_scores.bwt, matrix_scores.forgetting):
        assert math.isnan(score(gap, STEPS, LEARNED)[3])
    assert math.isnan(matrix_scores.fwt(R[1:], STEPS[1:], LEARNED)[-1])


def test_a_task_that_comes_back_counts_once_and_from_its_first_learning():
    back = np.array([[0.9, NAN], [0.5, 0.8], [0.95, 0.6]])
    steps, learned = [0, 1, 2], [0, 1]
    assert matrix_scores.acc(back, steps, learned) == pytest.approx([0.9, 0.65, 0.775])
    assert matrix_scores.bwt(back, steps, learned)[2] == pytest.approx(((0.95 - 0.9) + (0.6 - 0.8)) / 2)


def test_the_area_under_a_learning_curve_is_its_mean_height():
    assert matrix_scores.learning_curve_area([0.0, 1.0, 1.0], [0, 10, 30]) == pytest.approx((5 + 20) / 30)
    assert math.isnan(matrix_scores.learning_curve_area([0.5], [0]))
    assert matrix_scores.lca([0.1, 0.4, 0.7]) == pytest.approx(0.4)


def test_model_size_efficiency_is_one_for_constant_size_and_falls_with_growth():
    assert matrix_scores.model_size_efficiency([10, 10, 10]) == 1.0
    assert matrix_scores.model_size_efficiency([10, 20, 40]) == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert matrix_scores.model_size_efficiency([10, 5]) == 1.0
    assert math.isnan(matrix_scores.model_size_efficiency([0, 10]))


def test_further_axes_such_as_seeds_are_kept():
    seeds = np.stack([R, R + 0.1], axis=-1)
    assert matrix_scores.acc(seeds, STEPS, LEARNED).shape == (4, 2)
    assert matrix_scores.acc(seeds, STEPS, LEARNED)[3] == pytest.approx([0.7, 0.8])


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, list[int], list[int], bool]:
    """Draw a matrix with gaps, the task of each step (numbered by first arrival), and whether there is row −1."""
    steps = draw(st.integers(1, 7))
    tasks: list[int] = []
    for _ in range(steps):
        tasks.append(draw(st.integers(0, max(tasks, default=-1) + 1)))
    untrained = draw(st.booleans())
    width = max(tasks) + 1
    cells = st.one_of(st.integers(0, 10), st.just(-1))
    rows = draw(
        st.lists(
            st.lists(cells, min_size=width, max_size=width), min_size=steps + untrained, max_size=steps + untrained
        )
    )
    return np.array(rows), tasks, list(range(-1 if untrained else 0, steps)), untrained


@given(streams())
@settings(deadline=None)
def test_the_running_ledger_gives_the_closed_forms_in_every_row(case: tuple[np.ndarray, list[int], list[int], bool]):
    counts, tasks, steps, untrained = case
    learned = [tasks.index(task) for task in range(max(tasks) + 1)]
    ledger, rows = Ledger(1), []
    for row, step in zip(counts, steps, strict=True):
        if step >= 0:
            ledger.learned(step, tasks[step])
        assert ledger.row(step) == step + untrained
        tested = np.flatnonzero(row >= 0)
        if len(tested):
            ledger.put(tested, row[tested][:, None] / 10)
        ledger = Ledger.restored(ledger.state())  # a cut between any two rows changes nothing
        rows.append(ledger.scores())
    accuracy = np.where(counts < 0, NAN, counts / 10)
    for name in SCORES:
        closed = getattr(matrix_scores, name)(accuracy, steps, learned)
        np.testing.assert_allclose([row[name][0] for row in rows], closed, atol=1e-12, err_msg=name)


RISING, FALLING = Measure("accuracy"), Measure("mean_angle", "degree", higher=False)


def scored(measures: list[Measure]) -> list[dict[str, float]]:
    """Return the scores of R above by a ledger that is told what each task is measured by, a row each."""
    ledger, found = Ledger(1), []
    for row, step in zip(R, STEPS, strict=True):
        if step >= 0:
            ledger.learned(step, step)
        ledger.row(step)
        ledger.put(np.arange(3), row[:, None])
        found.append({name: float(value[0]) for name, value in ledger.scores(lambda task: measures[task]).items()})
    return found


def test_where_less_is_better_differences_have_the_other_sign_and_the_best_is_the_least():
    rising, falling = scored([RISING] * 3)[-1], scored([FALLING] * 3)[-1]
    assert falling["acc"] == rising["acc"]
    assert (falling["bwt"], falling["fwt"]) == pytest.approx((-rising["bwt"], -rising["fwt"]))
    # of task 0 the least was 0.1, untrained and so not counted, then 0.6; of task 1 0.3
    assert falling["forgetting"] == pytest.approx(((0.5 - 0.6) + (0.9 - 0.3)) / 2)


def test_over_tasks_of_several_measures_there_is_no_score_and_before_the_second_there_is():
    found = scored([RISING, FALLING, RISING])
    assert found[1]["acc"] == pytest.approx(0.9)
    assert all(math.isnan(value) for row in found[2:] for value in row.values())


def test_scores_that_hold_are_taken_up_from_a_checkpoint_of_before_sums():
    rows = np.array([[0, 7, 50, 45, 40], [2, 9, 20, 10, 20]])  # task, fingerprint, rows, right of two seeds
    cache = ScoreCache(seeds=2)
    cache.restore(rows)
    assert cache.hold(np.arange(3), [7, 7, 9]).tolist() == [True, False, True]
    score, sums = cache.results(np.array([0, 2]))
    assert score.tolist() == [[0.9, 0.8], [0.5, 1.0]]
    assert sums.tolist() == [[[45, 50], [40, 50]], [[10, 20], [20, 20]]]
