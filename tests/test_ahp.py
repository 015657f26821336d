"""From win rates to priorities: the golden vectors of the analytic hierarchy process, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_engine.analysis.taxonomy.ahp import borda, bradley_terry, principal, win_rates
from cl_engine.errors import UsageError

THREE = np.array([[0.5, 0.7, 0.9], [0.3, 0.5, 0.6], [0.1, 0.4, 0.5]])


def test_the_priorities_of_three_candidates_are_the_golden_ones():
    vector, largest, ratio = principal(THREE)
    np.testing.assert_allclose(vector, [0.682572, 0.213524, 0.103904], atol=1e-6)
    assert largest == pytest.approx(3.099933, abs=1e-6)
    assert ratio == pytest.approx(0.0861, abs=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.93])
def test_the_priorities_of_two_candidates_are_their_win_rates(share: float):
    vector, largest, ratio = principal(np.array([[0.5, share], [1 - share, 0.5]]))
    np.testing.assert_allclose(vector, [share, 1 - share])
    assert (largest, ratio) == (pytest.approx(2), 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=12))
def test_comparisons_that_agree_give_back_the_weights_they_were_made_from(weights: list[float]):
    w = np.array(weights) / sum(weights)
    wins = w[:, None] / (w[:, None] + w)
    vector, largest, ratio = principal(wins)
    np.testing.assert_allclose(vector, w, rtol=1e-9)
    np.testing.assert_allclose(bradley_terry(wins), w, rtol=1e-5)
    assert largest == pytest.approx(len(w))
    assert ratio == pytest.approx(0, abs=1e-9)


def test_the_vector_is_the_positive_one_of_all_eigenvectors():
    losses = np.random.default_rng(0).normal(size=(40, 200)) + np.linspace(0, 1, 40)[:, None]
    wins = win_rates(losses)
    vector, largest, _ = principal(wins)
    values, vectors = np.linalg.eig(wins / wins.T)
    perron = np.real(vectors[:, np.argmax(values.real)])
    np.testing.assert_allclose(vector, perron / perron.sum(), rtol=1e-9)
    assert largest == pytest.approx(values.real.max())


def test_a_monotone_change_of_the_losses_changes_nothing():
    losses = np.random.default_rng(1).exponential(size=(6, 50))
    for change in (np.log, lambda loss: 7 * loss**3 + 1):
        np.testing.assert_array_equal(win_rates(change(losses)), win_rates(losses))


def test_a_tie_counts_half_and_all_right_answers_are_ties():
    wins = win_rates(np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(wins, [[0.5, 0.625], [0.375, 0.5]])


def test_one_that_always_wins_has_no_ratio_without_bound():
    vector, _, _ = principal(win_rates(np.array([[0.0, 0.0], [1.0, 1.0]])))
    np.testing.assert_allclose(vector, [0.999, 0.001])


def test_the_three_orders_agree_where_the_comparisons_do():
    losses = np.arange(5)[:, None] + np.random.default_rng(2).normal(size=(5, 400))
    wins = win_rates(losses)
    for order in (principal(wins)[0], borda(wins), bradley_terry(wins)):
        assert order.sum() == pytest.approx(1)
        assert (np.diff(order) < 0).all()


def test_random_comparisons_are_about_as_inconsistent_as_the_ratio_takes_for_granted():
    random = np.random.default_rng(3)
    scale = np.concatenate([1 / np.arange(9, 1, -1), np.arange(1, 10)])  # Saaty's, from a ninth to nine
    for n in (9, 16):
        found = []
        for _ in range(60):
            ratios = np.triu(random.choice(scale, size=(n, n)), 1)
            ratios += np.tril(1 / np.where(ratios.T > 0, ratios.T, 1), -1) + np.eye(n)
            found.append(principal(ratios / (1 + ratios))[2])
        assert np.mean(found) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    ("wins", "said"),
    [
        (np.ones((2, 3)) / 2, r"square, found \[2, 3\]"),
        (np.array([[0.5, np.nan], [0.5, 0.5]]), "none may be NaN"),
        (np.array([[0.5, 1.2], [-0.2, 0.5]]), "between 0 and 1"),
    ],
)
def test_what_are_no_win_rates_is_refused(wins: np.ndarray, said: str):
    with pytest.raises(UsageError, match=said):
        principal(wins)


def test_losses_that_hold_nan_are_refused_by_the_place_of_the_candidate():
    with pytest.raises(UsageError, match="candidate 1 hold NaN"):
        win_rates(np.array([[0.0, 1.0], [0.0, np.nan]]))
    with pytest.raises(UsageError, match=r"on rows \[n, rows\], found \[2, 0\]"):
        win_rates(np.empty((2, 0)))
