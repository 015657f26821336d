"""Matrices held against each other: Mantel's test by its definition, and what is no matrix over the tasks."""

from __future__ import annotations

from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cl_engine.analysis.similarity import held_against, mantel, read_matrix
from cl_engine.errors import UsageError

NAMES = ("digit", "parity", "loops", "ink")


def random_matrix(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, n))


def test_a_matrix_goes_with_itself_and_no_other_order_of_its_tasks_does():
    for n in (4, 5, 9):
        found = mantel(random_matrix(n, n), random_matrix(n, n), permutations=500)
        orders = min(factorial(n) - 1, 500)
        assert (found.rho, found.tried) == (pytest.approx(1), orders)
        assert found.p == pytest.approx(1 / (1 + orders))
        assert found.pairs == n * (n - 1)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_of_few_tasks_every_order_is_tried_as_the_definition_says(method: str):
    a, b, off = random_matrix(5, 1), random_matrix(5, 2), ~np.eye(5, dtype=bool)
    correlate = stats.spearmanr if method == "spearman" else stats.pearsonr
    rhos = [correlate(a[np.ix_(order, order)][off], b[off])[0] for order in permutations(range(5))]
    found = mantel(a, b, method)  # type: ignore[arg-type]
    assert found.exact
    assert found.rho == pytest.approx(rhos[0])
    assert found.p == pytest.approx(np.mean(np.array(rhos) >= rhos[0] - 1e-9))


def test_four_tasks_cannot_give_a_p_below_one_in_24():
    assert mantel(random_matrix(4, 0), random_matrix(4, 0)).p == pytest.approx(1 / 24)


def test_p_of_matrices_that_have_nothing_to_do_with_each_other_is_uniform():
    p = [mantel(random_matrix(7, k), random_matrix(7, 1000 + k), permutations=99).p for k in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.1


def test_a_monotone_change_of_either_matrix_changes_nothing():
    a, b = random_matrix(6, 3), random_matrix(6, 4)
    assert mantel(np.log(a), b**3) == mantel(a, b)


def test_the_same_orders_are_drawn_every_time():
    a, b = random_matrix(9, 5), random_matrix(9, 6)
    assert mantel(a, b, permutations=300) == mantel(a, b, permutations=300)
    assert not mantel(a, b, permutations=300).exact


def test_the_diagonal_takes_no_part():
    a, b = random_matrix(6, 7), random_matrix(6, 8)
    other = b + np.diag(np.full(6, np.nan))
    assert mantel(a, other) == mantel(a, b)


def test_cells_that_were_not_measured_take_no_part_where_that_is_allowed():
    a, b = random_matrix(6, 9), random_matrix(6, 10)
    b[np.tril_indices(6)] = np.nan
    upper = np.triu_indices(6, 1)
    found = mantel(a, b, partial=True)
    assert found.pairs == 15
    assert found.rho == pytest.approx(stats.spearmanr(a[upper], b[upper])[0])
    with pytest.raises(UsageError, match="holds NaN off its diagonal"):
        mantel(a, b)


def test_a_change_is_made_in_every_order_of_the_tasks():
    a, b = random_matrix(5, 11), random_matrix(5, 12)
    assert mantel(a, b, change=lambda moved: moved**2) == mantel(a, b)
    down = mantel(a, np.cumsum(a, axis=0), change=lambda moved: np.cumsum(moved, axis=0))
    assert (down.rho, down.p) == (pytest.approx(1), pytest.approx(1 / 120))


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.ones((3, 3)), np.ones((3, 3)), "at least 4 tasks, found 3"),
        (np.ones((5, 4)), np.ones((5, 4)), r"square and over the same tasks, found \[5, 4\] and \[5, 4\]"),
        (random_matrix(5, 0), random_matrix(6, 0), r"found \[5, 5\] and \[6, 6\]"),
        (random_matrix(5, 0), np.ones((5, 5)), "constant off its diagonal"),
        (np.eye(5), random_matrix(5, 0), "constant off its diagonal"),
        (np.full((5, 5), np.nan), random_matrix(5, 0), "holds NaN"),
    ],
)
def test_what_cannot_be_tested_is_refused(a: np.ndarray, b: np.ndarray, said: str):
    with pytest.raises(UsageError, match=said):
        mantel(a, b)


def test_affinities_are_held_against_candidates_both_ways_in_every_seed_with_holm_over_the_candidates():
    affinity = np.stack([random_matrix(5, seed) for seed in (0, 1)])
    candidates = {"same": affinity, "other": random_matrix(5, 9), "turned": affinity.transpose(0, 2, 1)}
    found = {(each.name, each.way, each.seeds): each for each in held_against(affinity, candidates, (3, 4))}
    assert len(found) == 3 * 3 * 3
    assert found["same", "as it is", "all seeds"].found.rho == pytest.approx(1)
    assert found["turned", "turned", "seed 4"].found.rho == pytest.approx(1)
    best = found["same", "as it is", "seed 3"]
    assert best.p_holm == pytest.approx(3 * best.found.p)
    with pytest.raises(UsageError, match="flat: a matrix is constant"):
        held_against(affinity, {"flat": np.ones((5, 5))}, (3, 4))


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def test_a_matrix_is_read_from_a_file_that_names_the_tasks(tmp_path: Path):
    text = ",digit,parity,loops,ink\ndigit,,1,2,3\nparity,4,,5,6\nloops,7,8,0,9\nink,1e1,11,12,\n"
    found = read_matrix(written(tmp_path, text), NAMES)
    assert found[0].tolist()[1:] == [1, 2, 3]
    assert found[3, 0] == 10
    assert np.isnan(found[0, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns are other tasks: none; the run's tasks are, in order: digit, parity, loops, ink"),
        (",digit,loops,parity,ink\n", "its columns are in another order: digit, loops, parity, ink"),
        (",digit,parity,loops,ink\ndigit,,1,2,3\n", "its rows are other tasks: digit"),
        (
            ",digit,parity,loops,ink\ndigit,,1,x,3\nparity\nloops\nink\n",
            "cell of digit and loops is 'x', which is no number",
        ),
        (",digit,parity,loops,ink\ndigit,,1,2\nparity\nloops\nink\n", "cell of digit and ink holds no number"),
    ],
)
def test_a_file_that_is_no_matrix_over_the_tasks_is_refused(tmp_path: Path, text: str, said: str):
    with pytest.raises(UsageError, match=said):
        read_matrix(written(tmp_path, text), NAMES)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"nowhere.csv cannot be read"):
        read_matrix(tmp_path / "nowhere.csv", NAMES)
