"""Intervals, tests, ranks and fronts against numbers worked by hand, and what must hold of any."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cl_engine.analysis.scores.statistics import (
    bootstrap,
    critical_difference,
    front,
    holm,
    mean_and_deviation,
    ranked,
    sample_deviation,
    signed_rank,
    smallest_p,
)

numbers = st.integers(-20, 20).map(lambda n: n / 4)
few = st.lists(numbers, min_size=1, max_size=9)


def by_hand(differences: list[float]) -> float:
    """Return the exact two-sided p by giving every sign to every rank."""
    d = np.array([x for x in differences if x])
    ranks = stats.rankdata(np.abs(d))
    seen = min(ranks[d > 0].sum(), ranks[d < 0].sum())
    all_sums = [
        sum(r for r, plus in zip(ranks, signs, strict=True) if plus) for signs in product((0, 1), repeat=len(d))
    ]
    return min(1.0, 2 * float(np.mean(np.array(all_sums) <= seen + 1e-9)))


@given(few.filter(any))
@settings(deadline=None, max_examples=60)
def test_the_signed_rank_test_is_exact_with_ties_and_zeros(differences: list[float]):
    assert signed_rank(np.array(differences)) == pytest.approx(by_hand(differences))


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125), (10, 2 / 1024)])
def test_few_seeds_cannot_go_below_a_p(n: int, p: float):
    assert smallest_p(n) == p
    assert signed_rank(np.arange(1, n + 1)) == pytest.approx(p)


def test_equal_seeds_differ_not_at_all_and_a_missing_one_is_undefined():
    assert signed_rank(np.zeros(4)) == 1.0
    assert math.isnan(signed_rank(np.array([0.1, np.nan])))
    assert math.isnan(signed_rank(np.array([])))


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    corrected = holm([0.02, np.nan, 0.03])
    assert corrected[[0, 2]] == pytest.approx([0.04, 0.04])
    assert np.isnan(corrected[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_holm_keeps_the_order_and_is_between_the_p_and_bonferroni(p: list[float]):
    given_p, found = np.array(p), holm(p)
    assert (found >= given_p - 1e-15).all()
    assert (found <= np.minimum(1, given_p * len(p)) + 1e-12).all()
    order = np.argsort(given_p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
@settings(deadline=None)
def test_a_bootstrap_interval_is_inside_the_values_around_the_mean_and_always_the_same(values: list[float]):
    low, high = bootstrap(np.array(values))
    assert min(values) - 1e-12 <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= max(values) + 1e-12
    assert bootstrap(np.array(values)) == (low, high)


def test_a_bootstrap_agrees_with_scipys_and_needs_two_values():
    values = np.random.default_rng(1).normal(size=30)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000).confidence_interval
    assert bootstrap(values) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert all(map(math.isnan, bootstrap(np.array([0.5]))))
    assert all(map(math.isnan, bootstrap(np.array([0.5, np.nan]))))


def test_ranks_are_averages_with_ties_shared():
    values = np.array([[0.9, 0.8, 0.7], [0.9, 0.9, 0.1], [np.nan, 0.2, 0.1]])
    found = ranked(["a", "b", "c"], values)
    assert found.methods == ("a", "b", "c")
    assert found.ranks == pytest.approx((1.25, 1.75, 3.0))
    assert found.streams == 2
    assert ranked(["a", "b", "c"], values, higher=False).methods[0] == "c"


def test_bars_join_methods_next_to_each_other_that_do_not_differ():
    draw = np.random.default_rng(0)
    level = np.array([0.0, 0.001, 5.0, 9.0])
    values = -level + draw.normal(scale=1.0, size=(40, 4)) * np.array([1, 1, 0.1, 0.1])
    found = ranked(["a", "b", "c", "d"], values)
    assert found.groups == ((0, 1),)
    assert found.friedman < 1e-6
    assert found.pairs["c", "d"][1] < 0.05


def test_too_few_streams_join_all_methods():
    found = ranked(["a", "b"], np.array([[0.9, 0.1]] * 5))
    assert found.groups == ((0, 1),)
    assert math.isnan(found.friedman)


def test_the_critical_difference_is_that_of_the_table_of_demsar():
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert math.isnan(critical_difference(1, 5))


def test_the_front_is_what_nothing_dominates():
    gain, cost = np.array([0.9, 0.8, 0.8, 0.5, np.nan]), np.array([9.0, 3.0, 4.0, 1.0, 0.1])
    assert front(gain, cost).tolist() == [True, True, False, True, False]
    assert front(np.array([0.5, 0.5]), np.array([1.0, 1.0])).tolist() == [True, True]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
@settings(deadline=None)
def test_every_point_off_the_front_is_dominated_by_one_on_it(points: list[tuple[int, int]]):
    gain, cost = (np.array(axis, dtype=float) for axis in zip(*points, strict=True))
    on = front(gain, cost)
    assert on.any()
    for k in np.flatnonzero(~on):
        assert ((gain[on] >= gain[k]) & (cost[on] <= cost[k])).any()


def test_a_deviation_is_that_of_a_sample_and_one_seed_has_none():
    values = np.array([0.9, 0.8, 0.7])
    assert float(sample_deviation(values)) == pytest.approx(0.1)  # √((.01 + 0 + .01) / 2)
    assert mean_and_deviation(values) == "0.800 ± 0.100"
    assert mean_and_deviation(np.array([0.9]), 2) == "0.90"
    assert np.isnan(sample_deviation(np.array([[0.9], [0.8]]))).all()
